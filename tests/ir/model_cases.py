"""Models drawn at random, as messages: right in structure, meaningless in content."""

import random

from tests.codec.wire_cases import random_text

from gesher.codec.messages import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    StringStringEntryProto,
    TensorProto,
    TensorShapeProto,
    TensorShapeProtoDimension,
    TypeProto,
    TypeProtoTensor,
    ValueInfoProto,
)


def entries(rng, n):
    return [StringStringEntryProto(key=f"k{i}", value=random_text(rng)) for i in range(rng.randint(0, n))]


def maybe(rng, make):
    return make() if rng.random() < 0.4 else None


def a_tensor(rng, name=None):
    n = rng.randint(0, 5)
    t = TensorProto(dims=[n], name=name, doc_string=maybe(rng, lambda: random_text(rng)))
    if rng.random() < 0.5:
        t.data_type, t.raw_data = 1, rng.randbytes(4 * n)
    elif rng.random() < 0.5:
        t.data_type, t.int64_data = 7, [rng.getrandbits(40) for _ in range(n)]
    else:
        t.data_type, t.string_data = 8, [random_text(rng).encode() for _ in range(n)]
    return t


def a_type(rng):
    dims = [TensorShapeProtoDimension(dim_value=rng.randint(0, 9)) if rng.random() < 0.5
            else TensorShapeProtoDimension(dim_param=rng.choice(("n", "m + 1", "batch size", "")),
                                           denotation=maybe(rng, lambda: "DATA_BATCH"))
            for _ in range(rng.randint(0, 3))]
    return TypeProto(tensor_type=TypeProtoTensor(elem_type=rng.randint(1, 20), shape=TensorShapeProto(dim=dims)),
                     denotation=maybe(rng, lambda: "IMAGE"))


def an_info(rng, name):
    return ValueInfoProto(name=name, type=maybe(rng, lambda: a_type(rng)), doc_string=maybe(rng, lambda: "doc"),
                          metadata_props=entries(rng, 1))


def an_attribute(rng, name, depth, outer):
    kind = rng.choice(("f", "i", "s", "t", "floats", "ints", "strings", "tensors", "tp", "g" if depth < 2 else "i"))
    a = AttributeProto(name=name, doc_string=maybe(rng, lambda: random_text(rng)))
    number, value = {
        "f": (1, rng.choice((0.0, -0.0, 1.5, float("nan")))), "i": (2, rng.randint(-5, 5)),
        "s": (3, rng.choice((b"", b"text", b"\xff\xfe"))), "t": (4, a_tensor(rng)), "floats": (6, [0.5, -1.0]),
        "ints": (7, [1, -2, 3]), "strings": (8, [b"a", b"", b"\xff"]), "tensors": (9, [a_tensor(rng), a_tensor(rng)]),
        "tp": (13, a_type(rng)), "g": (5, None),
    }[kind]
    a.type = number
    setattr(a, kind, a_graph(rng, depth + 1, outer) if kind == "g" else value)
    return a


def a_graph(rng, depth=0, outer=()):
    g = GraphProto(name=f"graph{depth}", doc_string=maybe(rng, lambda: "doc"), metadata_props=entries(rng, 2))
    stem = f"g{rng.getrandbits(32):x}_"
    known = [*outer]
    g.input = [an_info(rng, f"{stem}in{i}") for i in range(rng.randint(0, 3))]
    g.initializer = [a_tensor(rng, f"{stem}w{i}") for i in range(rng.randint(0, 3))]
    known += [i.name for i in g.input] + [t.name for t in g.initializer]
    made = []
    nodes = []
    for i in range(rng.randint(1, 6)):
        outputs = [f"{stem}v{i}_{j}" for j in range(rng.randint(1, 2))]
        nodes.append(NodeProto(
            op_type=rng.choice(("Relu", "Add", "Custom")), name=maybe(rng, lambda i=i: f"node{i}"),
            domain=rng.choice((None, "", "ai.onnx", "my.domain")), doc_string=maybe(rng, lambda: "doc"),
            input=[rng.choice([*known, ""]) for _ in range(rng.randint(0, 3))], output=outputs,
            attribute=[an_attribute(rng, f"a{k}", depth, known) for k in range(rng.randint(0, 3))],
            metadata_props=entries(rng, 1)))
        known += outputs
        made += outputs
    g.node = nodes
    g.output = [an_info(rng, name) for name in rng.sample(made, min(2, len(made)))]
    inner = [name for name in made if name not in {o.name for o in g.output}]
    told = [*rng.sample(inner, len(inner) // 2), "nobody"]
    g.value_info = [an_info(rng, name) for name in told]
    return g


def a_function(rng, name):
    return FunctionProto(
        name=name, domain="my.domain", input=["x", "y"], output=["z"], attribute=["alpha"],
        attribute_proto=[an_attribute(rng, "beta", 9, ())], opset_import=[OperatorSetIdProto(domain="", version=17)],
        node=[NodeProto(op_type="Add", input=["x", "y"], output=["z"],
                        attribute=[AttributeProto(name="a", type=1, ref_attr_name="alpha")])],
        value_info=[an_info(rng, "x"), an_info(rng, "z")], doc_string=maybe(rng, lambda: "doc"))


def a_model(rng: random.Random):
    """A whole model: graph, functions, metadata, opset imports in both spellings of ai.onnx."""
    return ModelProto(
        ir_version=8, producer_name=maybe(rng, lambda: random_text(rng)), domain=rng.choice((None, "", "d")),
        model_version=maybe(rng, lambda: 3), graph=a_graph(rng), metadata_props=entries(rng, 3),
        functions=[a_function(rng, f"f{i}") for i in range(rng.randint(0, 2))],
        opset_import=[OperatorSetIdProto(domain=rng.choice((None, "", "ai.onnx")), version=17),
                      OperatorSetIdProto(domain="my.domain", version=1)])
