"""Cnn14 of PANNs as a tagger: network (torch), graph, importer."""
