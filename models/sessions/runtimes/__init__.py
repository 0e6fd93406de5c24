"""Runtimes that execute a model's graph: ONNX Runtime on CPU and GPU, OpenVINO."""
