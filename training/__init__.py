"""From data sets to model files."""
