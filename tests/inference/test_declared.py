"""What files declare: believed where nothing better is known, held against inference where something is."""

import pytest

from gesher.base import dtypes
from gesher.base.errors import ModelError
from gesher.inference import Facts, infer
from gesher.ir import Graph, Model, Node, SequenceType, TensorType, Type
from gesher.symbolic import fresh, sym

FLOAT = dtypes.FLOAT


def relu(x_type: Type | None, y_type: Type | None = None) -> tuple[Model, Graph]:
    graph = Graph("main")
    x = graph.add_input("x", x_type)
    node = graph.append(Node("Relu", [x]))
    node.output.name, node.output.type = "y", y_type
    graph.add_output(node.output)
    return Model(graph, opsets={"": 21}, ir_version=10), graph


def out(model: Model) -> tuple[Facts, str]:
    facts = infer(model)
    return facts, str(facts[model.graph.outputs[0]].type)


@pytest.mark.parametrize("names", [("?", "?"), ("None", "None"), ("-1", "-1")])
def test_two_dims_of_one_anonymous_name_are_not_the_same_size(names: tuple[str, str]) -> None:
    model, graph = relu(TensorType(FLOAT, tuple(sym(n) for n in names)))
    shape = infer(model).shape(graph.inputs[0])
    assert shape is not None and shape[0] != shape[1]


def test_two_dims_of_one_name_are_the_same_size() -> None:
    model, graph = relu(TensorType(FLOAT, (sym("n"), sym("n"))))
    shape = infer(model).shape(graph.inputs[0])
    assert shape == (sym("n"), sym("n"))


@pytest.mark.parametrize("dim", [0, -1, -7])
def test_a_size_of_an_input_that_cannot_be_meant_is_unknown_and_told(dim: int) -> None:
    model, graph = relu(TensorType(FLOAT, (dim, 3)))
    facts = infer(model)
    shape = facts.shape(graph.inputs[0])
    assert shape is not None and shape[0].is_fresh and shape[1] == 3  # type: ignore[union-attr]
    assert [(f.severity, f.rule) for f in facts.findings] == [("warning", "input-dims")]
    # It counts as an input's symbol: what follows from it is exact.
    assert facts.is_exact(graph.outputs[0])


def test_an_inferred_size_stands_against_a_declared_one_and_the_finding_names_both() -> None:
    model, _ = relu(TensorType(FLOAT, (2, 3)), TensorType(FLOAT, (2, 4)))
    facts, type = out(model)
    assert type == "float(2,3)"
    finding = facts.findings.errors[0]
    assert finding.rule == "type-contradiction" and "(2,4)" in finding.message and "(2,3)" in finding.message
    assert "Relu" in finding.place[-1]
    with pytest.raises(ModelError, match="declares"):
        infer(model, strict=True)


@pytest.mark.parametrize("declared", [TensorType(dtypes.DOUBLE, (2, 3)), TensorType(FLOAT, (2, 3, 1)),
                                      SequenceType(TensorType(FLOAT))])
def test_another_type_or_rank_is_a_contradiction(declared: Type) -> None:
    facts, type = out(relu(TensorType(FLOAT, (2, 3)), declared)[0])
    assert type == "float(2,3)" and [f.rule for f in facts.findings] == ["type-contradiction"]


@pytest.mark.parametrize("declared", [(2, None), (sym("whatever"), 3), (0, 3), (-1, 3), None])
def test_a_declaration_that_says_less_is_no_contradiction(declared: tuple | None) -> None:
    facts, type = out(relu(TensorType(FLOAT, (2, 3)), TensorType(FLOAT, declared))[0])
    assert type == "float(2,3)" and not facts.findings


def test_a_declared_input_symbol_never_changes_the_input() -> None:
    # Exporters leave `batch` on outputs whose size they have fixed; the input stays free.
    model, graph = relu(TensorType(FLOAT, (sym("batch"), 1)), TensorType(FLOAT, (1, sym("batch"))))
    facts, type = out(model)
    assert type == "float(batch,1)"
    assert facts.shape(graph.inputs[0]) == (sym("batch"), 1)


def test_a_size_that_no_operator_tells_takes_its_declared_name() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (sym("n"),)))
    node = graph.append(Node("NonZero", [x]))
    node.output.type = TensorType(dtypes.INT64, (1, sym("hits")))
    graph.add_output(node.output)
    after = graph.append(Node("Transpose", [node.output]))
    graph.add_output(after.output)
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert str(facts[after.output].type) == "int64(hits,1)"


def test_a_name_declared_for_two_sizes_that_differ_is_a_contradiction() -> None:
    graph = Graph("main")
    x = graph.add_input("x", TensorType(FLOAT, (2, 3)))
    for axis, perm in ((0, [0, 1]), (1, [1, 0])):
        node = graph.append(Node("Transpose", [x], attributes={"perm": perm}))
        node.output.type = TensorType(FLOAT, (sym("k"), None))
        graph.add_output(node.output)
        assert axis is not None
    facts = infer(Model(graph, opsets={"": 21}, ir_version=10))
    assert [f.rule for f in facts.findings] == ["type-contradiction"]


def test_an_input_without_a_type_says_so() -> None:
    model, graph = relu(None)
    facts = infer(model)
    assert "declares no type" in facts[graph.inputs[0]].why


def test_a_fresh_symbol_of_a_hand_built_graph_is_kept_apart() -> None:
    model, graph = relu(TensorType(FLOAT, (fresh("made by hand"), 3)))
    shape = infer(model).shape(graph.outputs[0])
    assert shape is not None and shape[0].is_fresh  # type: ignore[union-attr]
