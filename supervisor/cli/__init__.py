"""The `stoker` command, one verb a file."""
