"""The faces of stemwright: the command line, and what serves over a network."""
