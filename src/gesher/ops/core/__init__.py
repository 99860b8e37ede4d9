"""The operators of ai.onnx, one file a family."""
