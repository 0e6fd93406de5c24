"""Music2Latent's encoder as an embedder: graph and importer."""
