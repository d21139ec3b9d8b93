"""The bundle's ONNX graph: read without its weights, and cut into pieces."""
