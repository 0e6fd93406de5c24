"""The store of installed models: finding, pulling, verifying, importing and exporting them."""
