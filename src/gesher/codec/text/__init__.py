"""ONNX's text syntax: the same text for the same model as `onnx.printer` writes, the same model for the same text as
`onnx.parser` reads.

    model = parse_model('<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }')
    text = to_text(model)

The syntax has no words for some of what a model may say: doc strings and metadata of nodes and graphs, sparse
initializers, quantization annotations, training. That is not printed. Elsewhere this printer says more than onnx's:
defaults of a function's attributes, tensors of types narrower than a byte and complex ones, empty lists of strings;
and this parser reads more: lists of tensors, graphs and types in attributes, tensors with quoted names.
"""

from .parser import parse_function, parse_graph, parse_model, parse_node
from .printer import to_text

__all__ = ["parse_function", "parse_graph", "parse_model", "parse_node", "to_text"]
