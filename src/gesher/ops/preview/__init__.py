"""The operators of ai.onnx.preview: what ONNX tries out."""
