"""Models: manifests, the registry of model files, sessions, the separator, and one folder a family."""
