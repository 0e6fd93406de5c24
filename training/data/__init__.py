"""Data of training: packs of decoded recordings, and the sources that draw examples from them."""
