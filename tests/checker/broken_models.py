"""Small models, each with one thing wrong: the rule that must find it, and how to make it.

Each maker starts from a right model (`right`) and spoils one thing, so that what is found is what was spoilt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gesher.base import dtypes
from gesher.ir import (
    Attribute,
    Function,
    Graph,
    Kind,
    Model,
    Node,
    RawStorage,
    SparseTensor,
    Tensor,
    TensorType,
    TypedStorage,
    Value,
)
from gesher.symbolic import sym

F = dtypes.FLOAT
Maker = Callable[[], Model]
MODELS: dict[str, list[tuple[str, Maker]]] = {}
"""Rule -> (name, maker) of models that break it."""


def breaks(rule: str) -> Callable[[Maker], Maker]:
    """Register a model that breaks a rule."""
    def keep(make: Maker) -> Maker:
        MODELS.setdefault(rule, []).append((make.__name__.strip("_"), make))
        return make

    return keep


class Parts:
    """A right model and its parts: y = Relu(x + w), x float(batch,3), w float(3)."""

    def __init__(self, opset: int = 21, ir_version: int = 10):
        self.graph = Graph("main")
        self.x = self.graph.add_input("x", TensorType(F, (sym("batch"), 3)))
        self.w = self.graph.add_initializer(Tensor.of(np.ones(3, np.float32)), "w")
        self.add = self.graph.append(Node("Add", [self.x, self.w], name="add"))
        self.add.output.name = "sum"
        self.relu = self.graph.append(Node("Relu", [self.add.output], name="relu"))
        self.relu.output.name = "y"
        self.relu.output.type = TensorType(F, (sym("batch"), 3))
        self.graph.add_output(self.relu.output)
        self.model = Model(self.graph, opsets={"": opset}, ir_version=ir_version)

    def append(self, op_type: str, inputs: Any, outputs: Any = 1, /, attributes: dict[str, Any] | None = None,
               **options: Any) -> Node:
        """One more node, whose outputs become outputs of the graph."""
        node = self.graph.append(Node(op_type, inputs, outputs, attributes, **options))
        for i, o in enumerate(node.outputs):
            if o is not None:
                o.name = o.name or f"{op_type}_{i}"
                o.type = o.type or TensorType(F)
                self.graph.add_output(o)
        return node

    def function(self, name: str = "Twice", **options: Any) -> Function:
        """A right function of the model, called once: a + a."""
        a = Value("a")
        node = Node("Add", [a, a])
        node.output.name = "b"
        f = Function("my", name, [a], [node.output], [node], opsets={"": 21}, **options)
        self.model.functions[f.key] = f
        self.model.opsets["my"] = 1
        self.append(name, [self.x], domain="my", overload=f.overload)
        return f


def right(**options: Any) -> Model:
    """The model that all others are spoilt from."""
    return Parts(**options).model


def _branch(name: str, *values: Value) -> Graph:
    nodes = [Node("Identity", [v]) for v in values]
    for i, n in enumerate(nodes):
        n.output.name = f"{name}_{i}"
    return Graph(name, outputs=[n.output for n in nodes], nodes=nodes)


def _if(p: Parts, then: Graph, other: Graph, outputs: int = 1) -> Node:
    c = p.graph.add_input("c", TensorType(dtypes.BOOL, ()))
    return p.append("If", [c], outputs, {"then_branch": then, "else_branch": other})


# Structure

@breaks("undefined-value")
def reads_what_nothing_makes() -> Model:
    p = Parts()
    p.append("Neg", [Value("nobody")])
    return p.model


@breaks("undefined-value")
def gives_out_what_nothing_makes() -> Model:
    p = Parts()
    ghost = Value("ghost", TensorType(F, ()))
    p.graph.add_output(ghost)
    return p.model


@breaks("undefined-value")
def reads_into_a_sibling_branch() -> Model:
    p = Parts()
    then = _branch("then", p.x)
    other = _branch("else", then.outputs[0])
    _if(p, then, other)
    return p.model


@breaks("node-order")
def stands_before_what_it_reads() -> Model:
    p = Parts()
    p.graph._take_out(p.add)
    p.graph.append(p.add)
    return p.model


@breaks("node-order")
def captures_what_is_made_only_later() -> Model:
    p = Parts()
    late = Node("Neg", [p.x])
    late.output.name = "late"
    _if(p, _branch("then", late.output), _branch("else", p.x))
    p.graph.append(late)
    return p.model


@breaks("cycle")
def two_nodes_read_each_other() -> Model:
    p = Parts()
    back = Value("back")
    first = p.append("Add", [p.x, back])
    p.append("Neg", [first.output], [back])
    return p.model


@breaks("cycle")
def a_node_reads_itself() -> Model:
    p = Parts()
    own = Value("own")
    p.append("Neg", [own], [own])
    return p.model


@breaks("duplicate-name")
def two_nodes_make_one_name() -> Model:
    p = Parts()
    p.append("Neg", [p.x], [Value("sum")])
    return p.model


@breaks("duplicate-name")
def a_node_makes_the_name_of_an_input() -> Model:
    p = Parts()
    p.append("Neg", [p.x], [Value("x")])
    return p.model


@breaks("duplicate-name")
def two_initializers_of_one_name() -> Model:
    p = Parts()
    p.append("Neg", [p.graph.add_initializer(Tensor.of(np.ones(3, np.float32)), "w")])
    return p.model


@breaks("duplicate-name")
def an_input_listed_twice() -> Model:
    p = Parts()
    p.graph.inputs.append(p.x)
    return p.model


@breaks("shadowed-name")
def an_inner_name_hides_an_outer_one() -> Model:
    p = Parts()
    then = _branch("then", p.x)
    then.outputs[0].name = "sum"
    _if(p, then, _branch("else", p.x))
    return p.model


@breaks("duplicate-node-name")
def two_nodes_of_one_name() -> Model:
    p = Parts()
    p.relu.name = "add"
    return p.model


@breaks("unnamed-value")
def an_input_without_a_name() -> Model:
    p = Parts()
    p.x.name = ""
    return p.model


@breaks("no-outputs")
def a_graph_that_gives_nothing() -> Model:
    p = Parts()
    p.graph.outputs.clear()
    p.relu.output.uses.clear()
    return p.model


@breaks("graph-name")
def a_graph_without_a_name() -> Model:
    p = Parts()
    p.graph.name = ""
    return p.model


@breaks("input-type")
def an_output_without_a_type() -> Model:
    p = Parts()
    p.relu.output.type = None
    return p.model


@breaks("no-op-type")
def a_node_without_an_operator() -> Model:
    p = Parts()
    p.append("", [p.x])
    return p.model


@breaks("dead-node")
def a_node_that_leads_nowhere() -> Model:
    p = Parts()
    p.graph.append(Node("Neg", [p.x]))
    return p.model


@breaks("unused-initializer")
def an_initializer_that_nobody_reads() -> Model:
    p = Parts()
    p.graph.add_initializer(Tensor.of(np.ones(2)), "spare")
    return p.model


@breaks("nesting-depth")
def graphs_nested_a_thousand_deep() -> Model:
    p = Parts()
    c = p.graph.add_input("c", TensorType(dtypes.BOOL, ()))
    graph = _branch("g", p.x)
    for i in range(1000):
        node = Node("If", [c], attributes={"then_branch": graph, "else_branch": _branch(f"e{i}", p.x)})
        graph = Graph(f"g{i}", outputs=[node.output], nodes=[node])
    p.append("If", [c], 1, {"then_branch": graph, "else_branch": _branch("e", p.x)})
    return p.model


# Operators

@breaks("operator-unknown")
def an_operator_that_onnx_has_not() -> Model:
    p = Parts()
    p.append("Reluu", [p.x])
    return p.model


@breaks("operator-unknown")
def an_overload_that_the_model_has_not() -> Model:
    p = Parts()
    p.function()
    p.append("Twice", [p.x], domain="my", overload="other")
    return p.model


@breaks("operator-foreign")
def an_operator_of_a_domain_that_nobody_knows() -> Model:
    p = Parts()
    p.model.opsets["org.example"] = 1
    p.append("Frobnicate", [p.x], domain="org.example")
    return p.model


@breaks("operator-version")
def an_operator_newer_than_the_import() -> Model:
    p = Parts(opset=13, ir_version=7)
    p.append("Gelu", [p.x])
    return p.model


@breaks("operator-deprecated")
def an_operator_that_was_taken_away() -> Model:
    p = Parts()
    scale = p.graph.add_initializer(Tensor.of(np.ones(3, np.float32)), "scale")
    p.append("Scatter", [p.x, p.graph.add_initializer(Tensor.of(np.zeros((1, 3), np.int64)), "i"), p.x])
    p.append("Neg", [scale])
    return p.model


@breaks("input-count")
def too_many_inputs() -> Model:
    p = Parts()
    p.append("Relu", [p.x, p.x])
    return p.model


@breaks("input-count")
def inputs_of_an_operator_that_takes_none() -> Model:
    p = Parts()
    p.append("Constant", [p.x], 1, {"value_float": 1.0})
    return p.model


@breaks("input-count")
def too_few_inputs() -> Model:
    p = Parts()
    p.append("Add", [p.x])
    return p.model


@breaks("output-count")
def too_many_outputs() -> Model:
    p = Parts()
    p.append("Relu", [p.x], 2)
    return p.model


@breaks("input-missing")
def a_required_input_left_out() -> Model:
    p = Parts()
    p.append("Add", [None, p.x])
    return p.model


# Attributes

@breaks("attribute-unknown")
def an_attribute_that_the_operator_has_not() -> Model:
    p = Parts()
    p.append("Softmax", [p.x], 1, {"axs": 1})
    return p.model


@breaks("attribute-missing")
def a_required_attribute_left_out() -> Model:
    p = Parts()
    p.append("Concat", [p.x, p.x])
    return p.model


@breaks("attribute-kind")
def an_attribute_of_another_kind() -> Model:
    p = Parts()
    p.append("Softmax", [p.x], 1, {"axis": 1.0})
    return p.model


@breaks("attribute-value")
def a_word_that_is_not_one_of_the_few() -> Model:
    p = Parts()
    p.append("Gelu", [p.x], 1, {"approximate": "tan"})
    return p.model


@breaks("attribute-value")
def a_word_that_came_later() -> Model:
    p = Parts(opset=18, ir_version=8)
    pads = p.graph.add_initializer(Tensor.of(np.zeros(4, np.int64)), "pads")
    p.append("Pad", [p.x, pads], 1, {"mode": "wrap"})
    return p.model


@breaks("attribute-value")
def a_flag_that_is_neither_0_nor_1() -> Model:
    p = Parts()
    p.append("ReduceSum", [p.x], 1, {"keepdims": 2})
    return p.model


@breaks("attribute-lengths")
def strides_for_other_axes_than_the_kernel() -> Model:
    p = Parts()
    x = p.graph.add_input("image", TensorType(F, (1, 3, 8, 8)))
    p.append("MaxPool", [x], 1, {"kernel_shape": [2, 2], "strides": [2]})
    return p.model


@breaks("attribute-lengths")
def a_permutation_that_is_none() -> Model:
    p = Parts()
    p.append("Transpose", [p.x], 1, {"perm": [0, 0]})
    return p.model


@breaks("attribute-lengths")
def trees_whose_lists_differ_in_length() -> Model:
    p = Parts()
    p.model.opsets["ai.onnx.ml"] = 3
    p.append("TreeEnsembleRegressor", [p.x], 1, {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1], "nodes_modes": ["LEAF", "LEAF", "LEAF"],
        "n_targets": 1}, domain="ai.onnx.ml")
    return p.model


@breaks("attribute-ref")
def a_reference_outside_functions() -> Model:
    p = Parts()
    p.append("Softmax", [p.x], 1, {"axis": Attribute(Kind.INT, None, ref="along")})
    return p.model


@breaks("attribute-ref")
def a_reference_to_what_the_function_has_not() -> Model:
    p = Parts()
    f = p.function(attributes=["axis"])
    node = f.append(Node("Softmax", [f.inputs[0]], attributes={"axis": Attribute(Kind.INT, None, ref="along")}))
    f.add_output(node.output)
    return p.model


@breaks("attribute-ref")
def a_reference_to_another_kind() -> Model:
    p = Parts()
    f = p.function(defaults={"along": Attribute(Kind.FLOAT, 1.0)})
    node = f.append(Node("Softmax", [f.inputs[0]], attributes={"axis": Attribute(Kind.INT, None, ref="along")}))
    f.add_output(node.output)
    return p.model


@breaks("subgraph-arity")
def a_branch_that_gives_too_little() -> Model:
    p = Parts()
    _if(p, _branch("then", p.x, p.x), _branch("else", p.x), 2)
    return p.model


@breaks("subgraph-arity")
def a_loop_whose_body_takes_too_few() -> Model:
    p = Parts()
    n = p.graph.add_input("n", TensorType(dtypes.INT64, ()))
    body = Graph("body")
    go = body.add_input("go", TensorType(dtypes.BOOL, ()))
    again = body.append(Node("Identity", [go]))
    body.add_output(again.output)
    p.append("Loop", [n, None, p.x], 1, {"body": body})
    return p.model


# Types

@breaks("type-constraint")
def a_type_that_the_operator_does_not_take() -> Model:
    p = Parts()
    p.append("Not", [p.x])
    return p.model


@breaks("type-binding")
def operands_of_two_types() -> Model:
    p = Parts()
    p.append("Add", [p.x, p.graph.add_initializer(Tensor.of(np.ones(3)), "double")])
    return p.model


@breaks("type-binding")
def entries_of_a_list_of_two_types() -> Model:
    p = Parts()
    k = p.graph.add_initializer(Tensor.of(np.ones((1, 3), np.int64)), "k")
    p.append("Concat", [p.x, p.x, k], 1, {"axis": 0})
    return p.model


@breaks("type-contradiction")
def an_output_declared_as_another_type() -> Model:
    p = Parts()
    p.relu.output.type = TensorType(dtypes.DOUBLE, (sym("batch"), 3))
    return p.model


@breaks("type-contradiction")
def an_output_declared_in_another_rank() -> Model:
    p = Parts()
    p.relu.output.type = TensorType(F, (3,))
    return p.model


@breaks("shape-inference")
def a_product_of_matrices_that_do_not_fit() -> Model:
    p = Parts()
    p.append("MatMul", [p.x, p.graph.add_initializer(Tensor.of(np.ones((4, 2), np.float32)), "m")])
    return p.model


@breaks("shape-inference")
def an_axis_beyond_the_rank() -> Model:
    p = Parts()
    p.append("Softmax", [p.x], 1, {"axis": 2})
    return p.model


@breaks("dim-contradiction")
def sizes_that_differ_whatever_they_are() -> Model:
    p = Parts()
    longer = p.graph.add_input("longer", TensorType(F, (sym("batch") + 1, 3)))
    p.append("Concat", [p.x, longer], 1, {"axis": 1})
    return p.model


@breaks("input-dims")
def an_input_of_size_minus_one() -> Model:
    p = Parts()
    p.x.type = TensorType(F, (-1, 3))
    return p.model


@breaks("constant-fails")
def an_index_out_of_range() -> Model:
    p = Parts()
    data = p.graph.add_initializer(Tensor.of(np.arange(3.0)), "data")
    far = p.graph.add_initializer(Tensor.of(np.array([[7]])), "far")
    p.append("GatherND", [data, far])
    p.graph.outputs[-1].type = TensorType(dtypes.DOUBLE)
    return p.model


# Versions

@breaks("opset-import")
def nothing_is_imported() -> Model:
    p = Parts()
    p.model.opsets.clear()
    return p.model


@breaks("opset-import")
def a_domain_that_is_used_but_not_imported() -> Model:
    p = Parts()
    p.append("Binarizer", [p.x], domain="ai.onnx.ml")
    return p.model


@breaks("opset-import")
def a_version_below_one() -> Model:
    p = Parts()
    p.model.opsets["org.example"] = 0
    return p.model


@breaks("opset-unknown")
def an_opset_of_the_future() -> Model:
    return right(opset=999, ir_version=14)


@breaks("opset-unused")
def a_domain_that_is_imported_for_nothing() -> Model:
    p = Parts()
    p.model.opsets["com.microsoft"] = 1
    return p.model


@breaks("ir-version")
def no_ir_version() -> Model:
    return right(ir_version=0)


@breaks("ir-unknown")
def an_ir_version_of_the_future() -> Model:
    return right(ir_version=99)


@breaks("ir-opset-pair")
def an_opset_that_came_later() -> Model:
    return right(opset=21, ir_version=8)


@breaks("ir-feature")
def functions_before_there_were_any() -> Model:
    p = Parts(opset=13, ir_version=7)
    p.function()
    return p.model


@breaks("ir-feature")
def an_initializer_apart_before_it_was_allowed() -> Model:
    return right(opset=8, ir_version=3)


@breaks("ir-feature")
def a_data_type_before_it_was_there() -> Model:
    p = Parts(opset=17, ir_version=8)
    p.append("Identity", [p.graph.add_input("q", TensorType(dtypes.INT4, (2,)))])
    p.graph.outputs[-1].type = TensorType(dtypes.INT4, (2,))
    return p.model


# Tensors

def _with_tensor(tensor: Tensor | SparseTensor) -> Model:
    p = Parts()
    v = Value("t", constant=tensor)
    v.owner = p.graph
    p.graph.initializers[v] = None
    p.append("Identity", [v])
    p.graph.outputs[-1].type = None if isinstance(tensor, SparseTensor) else TensorType(tensor.dtype)
    if p.graph.outputs[-1].type is None:
        p.graph.outputs[-1].type = TensorType(F)
    return p.model


@breaks("tensor-data")
def bytes_that_are_too_few() -> Model:
    return _with_tensor(Tensor(F, (3,), RawStorage(b"\0" * 8)))


@breaks("tensor-data")
def entries_that_are_too_many() -> Model:
    return _with_tensor(Tensor(F, (3,), TypedStorage([1.0] * 4)))


@breaks("tensor-data")
def dims_that_overflow() -> Model:
    return _with_tensor(Tensor(F, (1 << 40, 1 << 40), RawStorage(b"\0" * 8)))


@breaks("tensor-data")
def an_attribute_with_too_little_data() -> Model:
    p = Parts()
    p.append("Constant", [], 1, {"value": Tensor(F, (3,), RawStorage(b"\0" * 8))})
    return p.model


@breaks("tensor-dims")
def a_negative_dim() -> Model:
    return _with_tensor(Tensor(F, (-3,), RawStorage(b"")))


@breaks("tensor-type")
def a_tensor_without_a_type() -> Model:
    return _with_tensor(Tensor(dtypes.UNDEFINED, (1,), RawStorage(b"\0")))


@breaks("sparse-tensor")
def an_index_outside_the_dims() -> Model:
    return _with_tensor(SparseTensor(Tensor.of(np.ones(1, np.float32)), Tensor.of(np.array([9])), (3,)))


@breaks("sparse-tensor")
def more_values_than_indices() -> Model:
    return _with_tensor(SparseTensor(Tensor.of(np.ones(2, np.float32)), Tensor.of(np.array([1])), (3,)))


# Functions

@breaks("function-recursion")
def a_function_that_calls_itself() -> Model:
    p = Parts()
    f = p.function()
    node = f.append(Node("Twice", [f.inputs[0]], domain="my"))
    f.opsets["my"] = 1
    f.add_output(node.output)
    return p.model


@breaks("function-recursion")
def functions_that_call_each_other_from_inside_a_branch() -> Model:
    p = Parts()
    one, two = p.function("One"), p.function("Two")
    for f, other in ((one, "Two"), (two, "One")):
        f.opsets["my"] = 1
        call = Node(other, [f.inputs[0]], domain="my")
        branch = Graph("b", outputs=[call.output], nodes=[call])
        cond = f.append(Node("Constant", attributes={"value": np.array(True)}))
        node = f.append(Node("If", [cond.output], attributes={"then_branch": branch,
                                                             "else_branch": _branch("e", f.inputs[0])}))
        f.add_output(node.output)
    return p.model


@breaks("function-arity")
def a_call_with_too_many_inputs() -> Model:
    p = Parts()
    p.function()
    p.append("Twice", [p.x, p.x], domain="my")
    return p.model


@breaks("attribute-unknown")
def a_call_with_an_attribute_that_the_function_has_not() -> Model:
    p = Parts()
    p.function()
    p.append("Twice", [p.x], 1, {"how": 1}, domain="my")
    return p.model


@breaks("attribute-kind")
def a_call_with_an_attribute_of_another_kind() -> Model:
    p = Parts()
    p.function(defaults={"how": Attribute(Kind.INT, 1)})
    p.append("Twice", [p.x], 1, {"how": "so"}, domain="my")
    return p.model


@breaks("function-attribute")
def a_call_that_leaves_an_attribute_out() -> Model:
    p = Parts()
    p.function(attributes=["how"])
    return p.model


@breaks("function-name")
def a_function_without_a_domain() -> Model:
    p = Parts()
    a = Value("a")
    node = Node("Neg", [a])
    f = Function("", "Mine", [a], [node.output], [node], opsets={"": 21})
    p.model.functions[f.key] = f
    p.append("Mine", [p.x])
    return p.model


@breaks("function-shadows")
def a_function_named_as_an_operator() -> Model:
    p = Parts()
    a = Value("a")
    node = Node("Neg", [a])
    f = Function("ai.onnx.ml", "Binarizer", [a], [node.output], [node], opsets={"": 21})
    p.model.functions[f.key] = f
    p.model.opsets["ai.onnx.ml"] = 5
    p.append("Binarizer", [p.x], domain="ai.onnx.ml")
    return p.model


@breaks("function-unused")
def a_function_that_nobody_calls() -> Model:
    p = Parts()
    p.function()
    f = Function("my", "Spare", [Value("a")], opsets={"": 21})
    node = f.append(Node("Neg", [f.inputs[0]]))
    f.add_output(node.output)
    p.model.functions[f.key] = f
    return p.model


@breaks("unused-input")
def a_function_that_does_not_read_an_input() -> Model:
    p = Parts()
    f = p.function()
    spare = Value("spare")
    spare.owner = f
    f.inputs.append(spare)
    return p.model


@breaks("function-initializers")
def a_function_that_captures() -> Model:
    p = Parts()
    f = p.function()
    node = f.append(Node("Add", [f.inputs[0], p.w]))
    f.add_output(node.output)
    return p.model


# Constants

def _reads_constants(op_type: str, *inputs: Any, **attributes: Any) -> Model:
    """A right model and one more node over constants and the input x float(batch,3), written as "x"."""
    p = Parts()
    values = [p.x if isinstance(i, str) else p.graph.add_initializer(Tensor.of(np.asarray(i)), f"c{n}")
              for n, i in enumerate(inputs)]
    node = p.append(op_type, values, 1, attributes)
    node.output.type = TensorType(dtypes.UINT8 if op_type.startswith("Q") else F)
    return p.model


@breaks("index-range")
def elements_beyond_the_axis() -> Model:
    return _reads_constants("GatherElements", "x", np.array([[0, 3]]), axis=1)


@breaks("index-range")
def elements_before_the_axis() -> Model:
    return _reads_constants("ScatterElements", "x", np.array([[-4]]), np.ones((1, 1), np.float32), axis=1)


@breaks("index-range")
def a_tuple_beyond_an_axis() -> Model:
    return _reads_constants("GatherND", "x", np.array([[0, 7]]))


@breaks("index-range")
def updates_beyond_an_axis() -> Model:
    return _reads_constants("ScatterND", "x", np.array([[0, 3]]), np.ones(1, np.float32))


@breaks("index-range")
def sequences_longer_than_time() -> Model:
    p = Parts()
    x = p.graph.add_input("t", TensorType(F, (4, 2)))
    p.append("ReverseSequence", [x, p.graph.add_initializer(Tensor.of(np.array([2, 5])), "lengths")])
    return p.model


def _quantized_convolution(scale: int, bias: int) -> Model:
    p = Parts()
    x = p.graph.add_input("q", TensorType(dtypes.UINT8, (1, 2, 8, 8)))
    u, f = np.uint8, np.float32
    parts = [f(1), u(0), np.ones((4, 2, 3, 3), u), np.ones(scale, f), np.zeros(scale, u), f(1), u(0),
             np.zeros(bias, np.int32)]
    p.append("QLinearConv", [x, *(p.graph.add_initializer(Tensor.of(np.asarray(a)), f"p{i}")
                                  for i, a in enumerate(parts))]).output.type = TensorType(dtypes.UINT8)
    return p.model


@breaks("weights-contradict")
def a_bias_of_another_layer() -> Model:
    return _quantized_convolution(4, 3)


@breaks("weights-contradict")
def scales_of_another_layer() -> Model:
    return _quantized_convolution(3, 4)


@breaks("constant-doubt")
def a_scale_of_nothing() -> Model:
    return _reads_constants("QuantizeLinear", "x", np.float32(0), np.uint8(0))


@breaks("constant-doubt")
def a_scale_that_is_no_number() -> Model:
    return _reads_constants("DequantizeLinear", np.ones(3, np.uint8), np.float32(np.inf))


@breaks("constant-doubt")
def a_negative_variance() -> Model:
    one = np.ones(3, np.float32)
    return _reads_constants("BatchNormalization", "x", one, one, one, -one)


@breaks("constant-doubt")
def bounds_out_of_order() -> Model:
    return _reads_constants("Clip", "x", np.float32(6), np.float32(0))


@breaks("constant-doubt")
def everything_dropped() -> Model:
    return _reads_constants("Dropout", "x", np.float32(1))


@breaks("constant-doubt")
def a_division_by_nothing() -> Model:
    p = Parts()
    n = p.graph.add_input("n", TensorType(dtypes.INT64, (3,)))
    zero = p.graph.add_initializer(Tensor.of(np.array([1, 0, 2])), "zero")
    p.append("Mod", [n, zero]).output.type = TensorType(dtypes.INT64)
    return p.model


# Weights

@breaks("weight-not-finite")
def a_weight_of_nan() -> Model:
    p = Parts()
    p.w.constant = Tensor.of(np.array([1, np.nan, 2], np.float32), "w")
    return p.model


@breaks("weight-not-finite")
def infinite_weights() -> Model:
    p = Parts()
    p.w.constant = Tensor.of(np.array([1, np.inf, -np.inf], np.float32), "w")
    return p.model


@breaks("weight-not-finite")
def a_byte_that_is_nan() -> Model:
    return _reads_constants("Cast", np.array([1, np.nan], np.float32).astype(dtypes.FLOAT8E4M3FN.numpy), to=1)


@breaks("weight-subnormal")
def weights_close_to_nothing() -> Model:
    return _reads_constants("Neg", np.full(100, 1e-40, np.float32))


@breaks("weight-duplicate")
def the_same_weight_twice() -> Model:
    big = np.arange(8192, dtype=np.float32)
    return _reads_constants("Mul", big, big.copy())


# Names

# Metadata

@breaks("metadata-key")
def metadata_without_a_key() -> Model:
    p = Parts()
    p.model.metadata[""] = "what for"
    return p.model


@breaks("quantization-annotation")
def an_annotation_of_nothing() -> Model:
    p = Parts()
    p.graph.quantization.append(("nobody", {"SCALE_TENSOR": "w"}))
    return p.model
