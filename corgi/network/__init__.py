"""ONNX file -> checked graph -> torch module + recognised CAM head, held equal to onnxruntime."""
