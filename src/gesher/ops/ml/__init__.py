"""The operators of ai.onnx.ml: trees, linear models, encoders."""
