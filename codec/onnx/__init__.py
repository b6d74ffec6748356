"""A codec as ONNX graphs: trace it, check it against PyTorch, run it in ONNX Runtime, export it."""
