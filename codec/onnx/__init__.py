"""A codec as ONNX graphs: traced, checked against PyTorch, run as an engine, and written for others to run."""
