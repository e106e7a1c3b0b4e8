"""What a transformer model runs on: torch, or ONNX Runtime."""
