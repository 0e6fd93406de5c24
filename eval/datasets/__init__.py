"""Data sets with true stems: what their folders look like, and their tracks as sources to read."""
