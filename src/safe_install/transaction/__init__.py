"""The only package that changes an environment: with journalled renames that can be undone."""
