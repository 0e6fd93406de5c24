"""VGGish as an embedder: graph and importer."""
