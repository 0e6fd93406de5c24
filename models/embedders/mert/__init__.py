"""MERT as an embedder: graph and importer."""
