"""LAION-CLAP's audio branch as an embedder: graph and importer."""
