"""Models of one layer and some sixty numbers a matrix, with the inputs and outputs that searches for text ask for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VOCABULARY, HEADS, SIZE = 12, 2, 4
WIDTH = HEADS * SIZE
PLACES = 24


class Maker:
    """A graph being made: values are names, weights are drawn."""

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def weight(self, *shape: int, scale: float = 0.7) -> str:
        return self.constant(self.rng.normal(0, scale, shape).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def heads(self, x: str) -> str:
        """(rows, heads, length, size) of (rows, length, width)."""
        apart = self.op("Reshape", x, self.constant(np.array([0, -1, HEADS, SIZE])))
        return self.op("Transpose", apart, perm=[0, 2, 1, 3])

    def attend(self, q: str, k: str, v: str, mask: str | None) -> str:
        """q, k, v with heads apart; mask (rows, keys) int32, 1 for what is seen."""
        scores = self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2]))
        if mask is not None:
            seen = self.op("Cast", mask, to=TensorProto.FLOAT)
            hidden = self.op("Mul", self.op("Sub", self.constant(np.float32(1)), seen), self.constant(np.float32(-1e4)))
            scores = self.op("Add", scores, self.op("Unsqueeze", hidden, self.constant(np.array([1, 2]))))
        found = self.op("MatMul", self.op("Softmax", scores, axis=-1), v)
        return self.op("Reshape", self.op("Transpose", found, perm=[0, 2, 1, 3]),
                       self.constant(np.array([0, -1, WIDTH])))

    def graph(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.GraphProto:
        infos = [[helper.make_tensor_value_info(*v) for v in values] for values in (inputs, outputs)]
        return helper.make_graph(self.nodes, name, *infos, initializer=self.weights)


I, F = TensorProto.INT32, TensorProto.FLOAT


def decoder(seed: int = 0, sharp: float = 1.0) -> onnx.GraphProto:
    """Like GPT-2; `sharp` scales its scores."""
    m = Maker(seed)
    x = m.op("Add", m.op("Gather", m.weight(VOCABULARY, WIDTH), "input_ids"),
             m.op("Gather", m.weight(PLACES, WIDTH), "position_ids"))
    q, k, v = (m.heads(m.op("MatMul", x, m.weight(WIDTH, WIDTH))) for _ in range(3))
    old_k, old_v = (m.op("Squeeze", m.op("Slice", "past_0", *(m.constant(np.array([n])) for n in (i, i + 1, 0))),
                         m.constant(np.array([0]))) for i in (0, 1))
    k, v = m.op("Concat", old_k, k, axis=2), m.op("Concat", old_v, v, axis=2)
    lead = m.constant(np.array([0]))
    m.op("Concat", m.op("Unsqueeze", k, lead), m.op("Unsqueeze", v, lead), axis=0, name="present_0")
    y = m.op("Add", x, m.attend(q, k, v, "attention_mask"))
    m.op("MatMul", y, m.weight(WIDTH, VOCABULARY, scale=sharp), name="logits")
    cache = [2, "rows", HEADS, "past", SIZE]
    return m.graph("decoder", [("input_ids", I, ["rows", "length"]), ("position_ids", I, ["rows", "length"]),
                               ("attention_mask", I, ["rows", "total"]), ("past_0", F, cache)],
                   [("logits", F, ["rows", "length", VOCABULARY]),
                    ("present_0", F, [2, "rows", HEADS, "total", SIZE])])


_CACHE = [("key", "self"), ("value", "self"), ("key", "cross"), ("value", "cross")]


def _caches(kind: str, which: Sequence[tuple[str, str]]) -> list[Any]:
    return [(f"{kind}_{part}_{where}_0", F, ["rows", HEADS, f"{kind}_{where}", SIZE]) for part, where in which]


def _decode(m: Maker, ids: str, past: tuple[str, str] | None, cross: tuple[str, str], mask: str | None,
            hidden: str | None, prefix: str) -> None:
    """One layer that attends to its own tokens and to the encoder's; outputs `logits` and present caches."""
    x = m.op("Gather", m.weight(VOCABULARY, WIDTH), ids)
    q, k, v = (m.heads(m.op("MatMul", x, m.weight(WIDTH, WIDTH))) for _ in range(3))
    for part, new, old in zip(("key", "value"), (k, v), past or (None, None)):
        name = f"{prefix}_{part}_self_0"
        if old is None:
            m.op("Identity", new, name=name)
        else:
            m.op("Concat", old, new, axis=2, name=name)
    own = m.attend(q, f"{prefix}_key_self_0", f"{prefix}_value_self_0", None)
    other = m.attend(m.heads(m.op("MatMul", own, m.weight(WIDTH, WIDTH))), *cross, mask)
    y = m.op("Add", m.op("Add", x, own), other)
    if hidden is not None:
        y = m.op("Add", y, m.op("ReduceMean", hidden, axes=[1], keepdims=1))
    m.op("MatMul", y, m.weight(WIDTH, VOCABULARY, scale=1.5), name="logits")


def encoder(seed: int = 1, *, first: bool = True, whisper: bool = False) -> onnx.GraphProto:
    """An encoder with what the decoder attends to; `first` makes the first scores too, with the weights of a decoder of
    the same seed. Whisper's takes features (rows, width, frames) and no mask."""
    m = Maker(seed)
    if first:
        # The first weights are the decoder's, so that it goes on as the encoder began.
        keys = ("k", "v")
        _decode(m, "decoder_input_ids", None, ("present_key_cross_0", "present_value_cross_0"),
                None if whisper else "encoder_attention_mask", "encoder_hidden_states", "present")
        later, m.nodes = m.nodes, []
    else:
        keys, later = ("k", "v"), []
    start = len(later)
    m.nodes = [helper.make_node("Identity", [m.constant(np.float32(0))], [f"_{start}"])]
    if whisper:
        x = m.op("Transpose", "encoder_input_ids", perm=[0, 2, 1], name="e0")
    else:
        x = m.op("Gather", m.weight(VOCABULARY, WIDTH), "encoder_input_ids", name="e0")
    hidden = m.op("MatMul", x, m.weight(WIDTH, WIDTH), name="encoder_hidden_states")
    for part, key in zip(("key", "value"), keys):
        apart = m.op("Reshape", m.op("MatMul", hidden, m.weight(WIDTH, WIDTH), name=f"e{key}"),
                     m.constant(np.array([0, -1, HEADS, SIZE])), name=f"r{key}")
        m.op("Transpose", apart, perm=[0, 2, 1, 3], name=f"present_{part}_cross_0")
    m.nodes += later
    ids = ("encoder_input_ids", F, ["rows", WIDTH, "frames"]) if whisper else \
        ("encoder_input_ids", I, ["rows", "text"])
    inputs = [ids, *([] if whisper else [("encoder_attention_mask", I, ["rows", "text"])])]
    if not first:
        return m.graph("encoder", inputs, _caches("present", _CACHE[2:]))
    outputs = [("logits", F, ["rows", "length", VOCABULARY]), ("encoder_hidden_states", F, ["rows", "text", WIDTH]),
               *_caches("present", _CACHE)]
    return m.graph("encoder", [*inputs, ("decoder_input_ids", I, ["rows", "length"])], outputs)


def cross_decoder(seed: int = 1, *, mask: bool = True, hidden: bool = True, one: bool = True) -> onnx.GraphProto:
    """The decoder of an encoder and a decoder; `one`: it takes the last token, else the whole sequence."""
    m = Maker(seed)
    _decode(m, "input_ids", ("past_key_self_0", "past_value_self_0") if one else None,
            ("past_key_cross_0", "past_value_cross_0"), "encoder_attention_mask" if mask else None,
            "encoder_hidden_states" if hidden else None, "present")
    inputs = [("input_ids", I, ["rows", 1 if one else "length"])]
    inputs += [("encoder_attention_mask", I, ["rows", "text"])] if mask else []
    inputs += [("encoder_hidden_states", F, ["rows", "text", WIDTH])] if hidden else []
    return m.graph("decoder", [*inputs, *_caches("past", _CACHE)],
                   [("logits", F, ["rows", "length", VOCABULARY]), *_caches("present", _CACHE[:2])])
