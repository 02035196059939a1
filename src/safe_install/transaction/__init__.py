"""The only package that changes an environment: by journalled renames that can be undone."""
