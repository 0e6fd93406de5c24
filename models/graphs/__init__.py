"""ONNX graphs as data: shipped without weights, filled, and with transforms and roles around them."""
