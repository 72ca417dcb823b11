"""Training of networks that have a class activation map, and their export to ONNX."""
