"""The `stemwright` command."""
