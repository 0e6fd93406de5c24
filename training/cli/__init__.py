"""The commands of `stemwright train`."""
