"""MiniLM as an encoder bundle: weights, adapter, ONNX graph and float64 reference. `python -m export.minilm` writes one."""
