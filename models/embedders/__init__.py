"""Embedders: networks that place sounds where distances agree with listeners."""
