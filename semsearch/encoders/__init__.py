"""Texts to unit vectors: the encoder, its runtimes, ONNX export and its cache."""
