"""CDPAM's encoder as an embedder: graph and importer."""
