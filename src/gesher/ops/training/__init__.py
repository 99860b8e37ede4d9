"""The operators of ai.onnx.preview.training: steps of optimisers, and the gradient."""
