"""The only room in which an environment is changed: journalled renames that can be taken back."""
