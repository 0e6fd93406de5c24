"""Scores by embeddings: their mean squared error, and the Fréchet audio distance of files and of sets."""
