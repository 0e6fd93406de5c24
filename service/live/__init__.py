"""Streams of samples over a socket: each runs a model in a process of its own, which ends with its socket."""
