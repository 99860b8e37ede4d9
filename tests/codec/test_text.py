"""The text syntax says what onnx's own printer and parser say."""

import random
import struct
import time
from decimal import Decimal, localcontext

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests.ir.model_cases import a_model
from tests.real_models import model_files, short

from gesher.base.errors import FormatError, ModelError
from gesher.codec import decode, encode
from gesher.codec.messages import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    SparseTensorProto,
    TypeProto,
    ValueInfoProto,
)
from gesher.codec.messages import TensorProto as OurTensorProto
from gesher.codec.text import parse_function, parse_graph, parse_model, parse_node, to_text
from gesher.codec.text.scanner import nearest_single

# The largest models of all are printed once, not twice.
FILES = [p for p in model_files() if p.stat().st_size < 2_000_000]


@pytest.mark.parametrize("path", FILES, ids=short)
def test_files_are_printed_and_parsed_as_onnx_does(path):
    text = to_text(decode(ModelProto, path.read_bytes()))
    assert text == onnx.printer.to_text(onnx.load(path, load_external_data=False))
    ours = parse_model(text)
    try:
        theirs = onnx.parser.parse_model(text)
    except onnx.parser.ParseError:
        # Its parser does not read tensors with quoted names, which its printer writes.
        assert 'tensor = float[' in text and to_text(ours) == text
    else:
        assert encode(ours) == theirs.SerializeToString()


MODELS = [
    "g (x) => (y) {}",
    "g () => () {}",
    "g => () {}",
    '<ir_version: 8, opset_import: ["": 17]> g (float[N] x) => (float[N] y) { y = Relu(x) }',
    """<ir_version: 9, opset_import: ["" : 18, "com.x" : 1], producer_name: "me", producer_version: "1.0",
        domain: "d", model_version: 3, doc_string: "say \\"hi\\" \\\\ there", metadata_props: ["a": "1", "b": ""]>
       "a graph" (float[N, 3, ?] x, int64 s, float[] any) => (float[N, 128] "the output") {}""",
    "<opset_import: [], metadata_props: []> g () => () {}",
    "<ir_version: 8, ir_version: 9> g () => () {}",
    """g (float[1, 2] x = {1, 2.5}, int64[0] e = {}, float[2] later) => (float[1, 2] y)
       <float[2] w = {-1, inf}, int64[1] big = {9223372036854775807}, float[3] z, string[2] s = {"a", "b\\"c"},
        double[2] d = {1e300, -nan}, uint64[1] u = {18446744073709551615}, bool[2] b = {0, 1}, float16[1] h = {15360},
        int4[2] four = {33}, uint2[4] two = {228}, float8e4m3fn[1] f8 = {56}, complex64[1] c = {1, 2},
        float6e2m3[1] six = {9}, float[1] told> { }""",
    """g (float[2] x) => (y) <float[2] w = ["location": "w.bin", "offset": "16", "length": "8"]> { y = Add(x, w) }""",
    "g (seq(float[N]) a, optional(seq(int64)) b, map(string, float[2]) c, sparse_tensor(float[3,4]) d, "
    "sparse_tensor(float) e, sparse_tensor(float[]) f, opaque() g, opaque(n) h, opaque(a.b, n) i, opaque(a.b) j) "
    "=> (bfloat16[\"batch size\", \"a+b\", _x1] y) {}",
    """g (x) => (y) {
        # a comment
        [node1] y, "", z = ai.onnx.ml.Op:over <a = 1, b: float = 2, c = -1.5e3, d = "text", e: ints = [], f = [1, 2],
            g = [1.5, 2, -3], h = ["a", "b"], i: floats = [1, 2], j = -inf, k = nan, l = [inf, -NaN, Infinity],
            m = float[2] {1, 2}, n = int64 {5}, o = float[2,N], p = seq(float), q = @outer, r: int = @outer,
            s = float[1] named = {3}, t = float = {4}, u = 1., v = 7e2, w: strings = []> (x, , "quoted name", )
        ["two words"] _ = Op2 (,) <after = 1>
        [] = Op3 ()
        a = Op4 ("",)  b = Op5 (x,)  c = Op6 (,x)
    }""",
    """g (bool c, float[2] x) => (float[2] y) {
        y = If (c) <then_branch = t () => (float[2] r) <float[2] k = {1, 2}> { r = Add(x, k) },
                    else_branch: graph = e () => (float[2] r) { r = If(c) <then_branch = q () => (s) { s = Neg(x) }> }>
    }""",
    """<ir_version: 10, opset_import: ["": 18, "d": 1]> g (x) => (y) { y = d.f:one <alpha = 2.0> (x) }
       <domain: "d", overload: "one", opset_import: ["": 18], doc_string: "twice">
       f <alpha, beta: float = 1.5, gamma = [1, 2]> (x, float[N] w) => (y, int64 n) <float[2] t, int64 q>
       { t = Mul <a = @alpha> (x, x)  y = Add(t, t) }
       <domain: "d"> g (x) => (x) {}""",
    "g (float[-1] x) => (y) {}",
    "g (x) => (y) { y = _op_1._Dom.Op (x) }",
    "g\n(\nx\n)\n=>\n(y)\n{\n}",
]


@pytest.mark.parametrize("text", MODELS)
def test_models_are_parsed_as_onnx_does(text):
    ours, theirs = parse_model(text), onnx.parser.parse_model(text)
    assert encode(ours) == theirs.SerializeToString()


@pytest.mark.parametrize("text", [
    "y = Relu(x)", "[n] y = Relu (x)", "a, b = Split <axis = 1> (x)", "= Op()", "y = d.e.Op (x) <a = 1>",
    'y = Op <a = "é漢🙂"> ("é")', "y = Constant <value = double[2] {0.1, 1e-310}> ()", "y = Op <a = 007> ()",
])
def test_nodes_are_parsed_as_onnx_does(text):
    assert encode(parse_node(text)) == onnx.parser.parse_node(text).SerializeToString()


def test_graphs_and_functions_are_parsed_as_onnx_does():
    text = "g (float[N] x) => (float[N] y) <float[2] w = {1, 2}> { y = Add(x, w) }"
    assert encode(parse_graph(text)) == onnx.parser.parse_graph(text).SerializeToString()
    text = '<opset_import: ["": 18], domain: "d"> f <a, b: int = 2> (x) => (y) { y = Op <a = @a> (x) }'
    assert encode(parse_function(text)) == onnx.parser.parse_function(text).SerializeToString()


def test_bytes_are_read_as_text():
    assert encode(parse_node('y = Op <a = "é"> (x)'.encode())) == encode(parse_node('y = Op <a = "é"> (x)'))
    odd = parse_node(b'y = Op <a = "\xff"> ("\xfe")')
    assert odd.attribute[0].s == b"\xff" and encode(odd) == encode(decode(NodeProto, encode(odd)))
    assert to_text(odd).encode("utf-8", "surrogateescape").count(b"\xff") == 1


# Errors


@pytest.mark.parametrize(("parse", "text", "says", "place"), [
    (parse_model, "", "expected the name of a graph, but found the end", "line 1, column 1"),
    (parse_model, "g (x) = > (y) {}", "expected '=>', but found '='", "line 1, column 7"),
    (parse_model, "g (x) => (y) {\n  y = Relu(x\n}", r"expected '\)', but found '}'", "line 3, column 1"),
    (parse_model, "g (x) => (y) {} <domain: 3> f", "expected a string in quotes, but found '3'", "line 1, column 26"),
    (parse_model, "<no_such: 1> g () => () {}", "a model has no 'no_such'", "line 1, column 2"),
    (parse_function, "<ir_version: 1> f () => () {}", "a function has no 'ir_version'", "line 1, column 2"),
    (parse_model, '<ir_version: 1.5> g () => () {}', "expected a whole number", "line 1, column 14"),
    (parse_model, '<ir_version: 9223372036854775808> g () => () {}', "is not between", "line 1, column 14"),
    (parse_model, f'<ir_version: {"9" * 10000}> g () => () {{}}', "is not between", "line 1, column 14"),
    (parse_model, '<producer_name: "me> g () => () {}', "this string has no end", "line 1, column 17"),
    (parse_node, "y = Op(x) z", "more text", "line 1, column 11"),
    (parse_node, "y = (x)", "expected an operator", "line 1, column 5"),
    (parse_node, "y = Op <> (x)", "expected the name of an attribute", "line 1, column 9"),
    (parse_node, "y = Op <a: unit = 1> (x)", "'unit' is no type of attribute", "line 1, column 12"),
    (parse_node, "y = Op <a = []> (x)", "does not tell its type", "line 1, column 13"),
    (parse_node, "y = Op <a: int = [1]> (x)", "takes one value, not a list", "line 1, column 18"),
    (parse_node, "y = Op <a: int = 1.5> (x)", "expected a value of type int, but this is of type float",
     "line 1, column 18"),
    (parse_node, "y = Op <a = [1, 2.5]> (x)", "expected a value of type int", "line 1, column 17"),
    (parse_node, "y = Op <a = [1, @b]> (x)", "expected a value, but found '@'", "line 1, column 17"),
    (parse_node, "y = Op <a = 1e> (x)", "exponent", "line 1, column 13"),
    (parse_node, "y = Op <a = 1e39> (x)", "too large for a float of 32 bits", "line 1, column 13"),
    (parse_node, "y = Op <a = 99999999999999999999> (x)", "is not between", "line 1, column 13"),
    (parse_node, "y = Op <a = double[1] {1e309}> (x)", "too large for a float of 64 bits", "line 1, column 24"),
    (parse_node, "y = Op <a = int8[1] {3000000000}> (x)", "is not between", "line 1, column 22"),
    (parse_node, "y = Op <a = uint64[1] {-1}> (x)", "is not between", "line 1, column 24"),
    (parse_node, 'y = Op <a = float[1] {"x"}> (x)', "expected a number", "line 1, column 23"),
    (parse_node, "y = Op <a = float[N] {1}> (x)", "with all its dims", "line 1, column 13"),
    (parse_node, "y = Op <a = seq(float) {1}> (x)", "with all its dims", "line 1, column 13"),
    (parse_graph, "g (float[] x = {1}) => () {}", "with all its dims", "line 1, column 16"),
    (parse_graph, "g (x = {1}) => () {}", "'x' needs a type", "line 1, column 8"),
    (parse_graph, "g (seq(thing) x) => () {}", "'thing' is no type", "line 1, column 8"),
    (parse_graph, "g (map(seq, float) x) => () {}", "'seq' is no data type", "line 1, column 8"),
    (parse_graph, "g (float[1 x) => () {}", r"expected '\]', but found 'x'", "line 1, column 12"),
])
def test_errors_tell_line_and_column_and_show_the_line(parse, text, says, place):
    with pytest.raises(FormatError, match=says) as e:
        parse(text)
    assert e.value.place == (place,)
    line, caret = e.value.advice.split("\n")
    assert caret.strip() == "^" and line.strip() in text.replace("\n", " ")


@pytest.mark.parametrize("text", ["g (" + "seq(" * 10_000, "g () => () { y = If <a = g () => () " * 10_000,
                                  "(" * 10_000, "<" * 10_000, '"' + "\\" * 9_999])
def test_deep_nesting_is_refused_at_once(text):
    start = time.monotonic()
    with pytest.raises(FormatError):
        parse_model(text)
    assert time.monotonic() - start < 1


def test_long_strings_blanks_and_comments_take_no_time():
    long = 'a\\\\"'.replace('"', '\\"') * 300_000
    start = time.monotonic()
    node = parse_node(f'y = Op <a = "{long}"> {" " * 1_000_000}{"# note" + chr(10) * 3 }{"#" * 1_000_000}' + "\n(x)")
    assert len(node.attribute[0].s) == 3 * 300_000 and node.input == ["x"]
    assert time.monotonic() - start < 1


def test_as_deep_as_a_file_may_be_is_read_and_printed():
    text = "h () => (y) { y = Neg(x) }"
    for _ in range(33):
        text = "g () => (y) { y = If (c) <a = " + text + "> }"
    message = parse_graph(text)
    assert encode(decode(GraphProto, encode(message))) == encode(message)
    assert encode(parse_graph(to_text(message)))


def test_random_damage_to_text_is_told():
    rng = random.Random(3)
    for text in MODELS:
        for _ in range(150):
            chars = list(text)
            for _ in range(rng.randint(1, 3)):
                i = rng.randrange(len(chars))
                chars[i:i + rng.randint(0, 2)] = rng.choice(["", *'<>(){}[]=,:."\\@?#-9e\n x', "float", "\ud800", "é"])
            try:
                message = parse_model("".join(chars))
                to_text(message)
            except FormatError as e:
                assert e.place[0].startswith("line ")


# Numbers


def graph_with(floats, doubles):
    node = helper.make_node("Op", [], ["y"], a=floats or [0.0])
    tensor = onnx.TensorProto(data_type=TensorProto.DOUBLE, dims=[len(doubles)], double_data=doubles, name="d")
    return onnx.GraphProto(name="g", node=[node], initializer=[tensor])


def test_numbers_are_printed_with_the_digits_that_onnx_prints():
    rng = random.Random(7)
    singles = [struct.unpack("<f", struct.pack("<I", rng.getrandbits(32)))[0] for _ in range(20_000)]
    singles += [s * 2.0 ** e for e in range(-149, 128) for s in (1.0, -1.0)] + [0.0, -0.0, 1e5, 1e4, 123456792.0]
    singles += [float(np.float32(10.0 ** e)) for e in range(-44, 38)]
    doubles = [struct.unpack("<d", struct.pack("<Q", rng.getrandbits(64)))[0] for _ in range(20_000)]
    doubles += [2.0 ** e for e in range(-1074, 1024)] + [10.0 ** e for e in range(-320, 308)]
    graph = graph_with(singles, doubles)
    assert to_text(decode(GraphProto, graph.SerializeToString())) == onnx.printer.to_text(graph)


def test_numbers_are_read_to_the_nearest_as_onnx_reads_them():
    rng = random.Random(8)
    texts = ["16777217", "16777219.0", "0.1", "3.4028235e38", "1e-46", "7e-46", "1.4e-45", "1e-400", "-0", "0.000001"]
    for _ in range(3000):
        # Near the middle between two floats, where reading through a double goes wrong.
        bits = rng.getrandbits(31) % 0x7F000000
        low, high = (struct.unpack("<f", struct.pack("<I", bits + i))[0] for i in (0, 1))
        with localcontext() as c:
            c.prec = 60
            middle = (Decimal(low) + Decimal(high)) / 2
            texts.append(f"{middle + middle.scaleb(-40) * rng.choice((-1, 0, 1)):.50e}")
    for text in texts:
        theirs = onnx.parser.parse_node(f"y = Op <a: float = {text}> ()").attribute[0].f
        assert struct.pack("<f", nearest_single(text)) == struct.pack("<f", theirs), text
    row = f"y = Op <a = float[{len(texts)}] {{{', '.join(texts)}}}> ()"
    assert encode(parse_node(row)) == onnx.parser.parse_node(row).SerializeToString()


# What onnx's printer leaves out or cannot read back


def model(**fields):
    return ModelProto(ir_version=10, opset_import=[OperatorSetIdProto(domain="", version=18)],
                      graph=GraphProto(name="g", **fields))


def test_random_models_come_back_from_their_text():
    rng = random.Random(4)
    for _ in range(100):
        text = to_text(decode(ModelProto, encode(a_model(rng))))
        again = parse_model(text)
        assert to_text(again) == text


@pytest.mark.parametrize("tensor", [
    OurTensorProto(data_type=22, dims=[3], raw_data=b"\x21\x03"),
    OurTensorProto(data_type=25, dims=[5], raw_data=b"\xe4\x01"),
    OurTensorProto(data_type=27, dims=[5], raw_data=b"\x01\x02\x03\x04"),
    OurTensorProto(data_type=14, dims=[1], raw_data=struct.pack("<2f", 1.5, -2)),
    OurTensorProto(data_type=15, dims=[1], raw_data=struct.pack("<2d", 1.5, -2)),
    OurTensorProto(data_type=22, dims=[3], int32_data=[0x21, 3]),
])
def test_narrow_and_complex_tensors_are_printed_with_their_numbers(tensor):
    tensor.name = "w"
    text = to_text(model(initializer=[tensor]))
    (again,) = parse_model(text).graph.initializer
    want = onnx.numpy_helper.to_array(onnx.TensorProto.FromString(encode(tensor)))
    assert onnx.numpy_helper.to_array(onnx.TensorProto.FromString(encode(again))).tolist() == want.tolist()


def test_defaults_of_a_function_are_printed():
    f = parse_function('<domain: "d", opset_import: ["": 18]> f <a, b: float = 2.5> (x) => (y) { y = Op(x) }')
    assert encode(parse_function(to_text(f))) == encode(f)
    assert "2.5" not in onnx.printer.to_text(onnx.FunctionProto.FromString(encode(f)))


def test_empty_lists_of_strings_can_be_read_back():
    text = "y = Op <a: strings = []> ()"
    assert to_text(parse_node(text)).strip() == text
    t = OurTensorProto(name="s", data_type=8, dims=[0])
    assert parse_model(to_text(model(initializer=[t]))).graph.initializer[0].dims == [0]


def test_lists_of_tensors_graphs_and_types_are_read():
    node = parse_node("y = Op <a = [float[1] {1}, float[1] {2}], b = [float[2], seq(int64)], c = [g () => () {}]> ()")
    assert [len(getattr(a, f)) for a, f in zip(node.attribute, ("tensors", "type_protos", "graphs"))] == [2, 2, 1]
    assert encode(parse_node(to_text(node))) == encode(node)


def test_tensors_with_quoted_names_and_scalars_outside_are_read():
    text = 'y = Op <a: tensor = float[1] "a name" {2}, b: tensor = float["location": "w.bin"]> ()'
    node = parse_node(text)
    assert node.attribute[0].t.name == "a name" and node.attribute[1].t.external_data[0].value == "w.bin"
    assert to_text(node).strip() == text


def test_a_value_that_is_called_like_a_type_can_be_read_back():
    m = model(input=[ValueInfoProto(name="float")], output=[ValueInfoProto(name="seq")])
    assert parse_model(to_text(m)).graph.input[0].name == "float"
    f = FunctionProto(name="f", domain="d", input=["float"], output=["map"])
    assert parse_function(to_text(f)).input == ["float"]


def test_what_has_no_words_is_marked():
    a = AttributeProto(name="a", type=11, sparse_tensor=SparseTensorProto())
    assert to_text(a) == "a: sparse_tensor = ..."
    assert to_text(OurTensorProto(data_type=1, dims=[2], raw_data=b"1234")) == "float[2]..."
    assert to_text(OurTensorProto()) == "undefined..."
    assert to_text(TypeProto()) == ""
    with pytest.raises(ModelError, match="no words for SparseTensorProto"):
        to_text(SparseTensorProto())
