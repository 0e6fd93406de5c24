"""Named rewrites of ONNX graphs: the same arithmetic in forms that a provider runs faster."""
