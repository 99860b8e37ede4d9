"""Golden pairs: what a rule makes of what, as text that a person can read.

    opset 13
    x, y: float(N,8)
    w = random(8,4)                      a weight; `constant` of numbers is just written: 0.5, [1, 2]

    # why this pair is here
    t = x * y
    MatMul(t, w) * 2 => MatMul(t, w * 2)

    x + 0.0 => unchanged

A line that ends in `:` types declares inputs, a line `a = expression` names a value for the block that it stands in
(or for all that follow, where it stands above a line `shared:`). Operators of com.microsoft begin with `ms.`, our own
with `own.`; a function of several outputs is indexed: `Split(x, outputs=2)[0]`; `a, b => c, d` gives several outputs.

The right side is written in the newest opset. Older spellings are brought up to date and constants folded on both
sides before the two are compared. Each
pair is also run before and after on the reference: with symbols in two sizes, then with infinities, NaN and zeros of
both signs among the numbers. `finite` in front of a pair leaves the last out.
"""

from __future__ import annotations

import ast
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gesher.base import dtypes
from gesher.evaluator import Evaluator
from gesher.evaluator.difference import difference
from gesher.ir import Model, Tensor, TensorType, Value
from gesher.ops.build import Builder
from gesher.optimizer import constants, duplicates, modern
from gesher.rewriter import Pass, Pipeline, Sweep, Work
from gesher.rewriter.inline import inlined
from gesher.rewriter.work import NEWEST_OPSETS

_DOMAINS = {"ms": "com.microsoft", "own": "gesher"}
_OPERATORS = {ast.Add: "Add", ast.Sub: "Sub", ast.Mult: "Mul", ast.Div: "Div", ast.Pow: "Pow", ast.MatMult: "MatMul"}
_FOLD = Pipeline("fold", (Pass("fold", (*constants.RULES, *modern.RULES)),
                          Sweep("duplicates", duplicates.merge_duplicates)))


@dataclass
class Pair:
    """One golden pair with what was declared in front of it."""

    left: str
    right: str
    line: int
    opset: int
    inputs: dict[str, tuple[str, tuple[str, ...]]]
    names: list[tuple[str, str]] = field(default_factory=list)
    finite: bool = False

    def __str__(self) -> str:
        return f"{self.line}: {self.left[:50]}"


def pairs(path: Path) -> list[Pair]:
    """The pairs of a file."""
    found: list[Pair] = []
    opset, inputs, shared = 21, {}, []
    local: list[tuple[str, str]] = []
    finite = False
    text, at = "", 0
    for number, raw in enumerate([*path.read_text("utf-8").split("\n"), ""], 1):
        line = raw.split("  #")[0].rstrip()
        if line.startswith("#"):
            continue
        if text and line.startswith(("    ", "=>")):
            text += " " + line.strip()
            continue
        if text:
            left, right = text.split("=>")
            found.append(Pair(left.strip(), right.strip(), at, opset, dict(inputs), [*shared, *local], finite))
            text, finite = "", False
        if not line:
            local = []
        elif line.startswith("opset "):
            opset = int(line[6:])
        elif line == "shared:":
            shared, local = [*shared, *local], []
        elif line == "finite":
            finite = True
        elif "=>" in line:
            text, at = line, number
        elif ": " in line and "=" not in line.split(": ")[0]:
            names, type = line.split(": ")
            dtype, dims = type.rstrip(")").split("(")
            for name in names.split(","):
                inputs[name.strip()] = (dtype, tuple(d.strip() for d in dims.split(",") if d.strip()))
        elif " = " in line and line.split(" = ")[0].replace(",", "").replace(" ", "").isidentifier():
            name, value = line.split(" = ", 1)
            local.append((name, value))
        else:
            # A pair may begin before its arrow.
            text, at = line, number
    return found


class _Reader:
    """Builds a graph from expressions."""

    def __init__(self, pair: Pair, opsets: dict[str, int]):
        self.b = Builder(dict(opsets))
        self.known: dict[str, Any] = {}
        self.texts = {n.strip(): (text, name) for name, text in pair.names for n in name.split(",")}
        used, pending = set[str](), [pair.left]
        while pending:
            for n in ast.walk(ast.parse(pending.pop(), mode="eval")):
                if isinstance(n, ast.Name) and n.id not in used:
                    used.add(n.id)
                    pending += [self.texts[n.id][0]] if n.id in self.texts else []
        for name, (dtype, dims) in pair.inputs.items():
            if name in used:
                self.known[name] = self.b.input(name, dtypes.BY_NAME[dtype],
                                                [int(d) if d.lstrip("-").isdigit() else d for d in dims])

    def named(self, name: str) -> Any:
        """What a name stands for, built when it is first asked for."""
        if name not in self.known:
            text, names = self.texts[name]
            value = self.value(ast.parse(text, mode="eval").body, name)
            self.known.update(zip((n.strip() for n in names.split(",")), value) if "," in names else {name: value})
        return self.known[name]

    def model(self, text: str) -> Model:
        tree = ast.parse(text, mode="eval").body
        results = [self.value(e) for e in (tree.elts if isinstance(tree, ast.Tuple) else [tree])]
        for i, v in enumerate(results):
            self.b.output(v if isinstance(v, Value) else self.b.constant(np.asarray(v, np.float32)), f"out{i}")
        return self.b.model()

    def value(self, e: ast.expr, name: str = "") -> Any:
        b = self.b
        match e:
            case ast.Name(id=n):
                return self.named(n)
            case ast.BinOp(left=a, op=o, right=c):
                return b.op(_OPERATORS[type(o)], self.value(a), self.value(c))
            case ast.UnaryOp(op=ast.USub(), operand=x) if not isinstance(x, ast.Constant):
                return b.op("Neg", self.value(x))
            case ast.Subscript(value=x, slice=ast.Constant(value=i)):
                return self.value(x)[i]
            case ast.Call(func=ast.Name(id=("random" | "positive") as how), args=args):
                shape = tuple(ast.literal_eval(a) for a in args)
                numbers = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
                return b.constant((np.abs(numbers) + 0.1 if how == "positive" else numbers).astype(np.float32), name)
            case ast.Call(func=ast.Name(id=cast), args=[x]) if cast in dtypes.BY_NAME:
                return b.constant(np.asarray(ast.literal_eval(x)).astype(dtypes.BY_NAME[cast].numpy))
            case ast.Call(func=f, args=args, keywords=words):
                domain, op_type = (_DOMAINS[f.value.id], f.attr) if isinstance(f, ast.Attribute) else ("", f.id)
                attributes = {w.arg: self._attribute(w.value) for w in words}
                return b.op(op_type, *map(self.value, args), domain=domain, **attributes)
            case _:
                return ast.literal_eval(e)

    @staticmethod
    def _attribute(e: ast.expr) -> Any:
        if isinstance(e, ast.Name):
            return dtypes.BY_NAME[e.id]
        return ast.literal_eval(e)


def printed(work: Work) -> str:
    """A graph as expressions, attributes that have their defaults left out; values read twice get a line."""
    graph = work.model.graph
    names: dict[Value, str] = {v: v.name for v in graph.inputs}
    lines: list[str] = []

    def text(v: Value | None) -> str:
        if v is None:
            return "None"
        if v in names:
            return names[v]
        constant = v.constant if v.producer is None else None
        if isinstance(constant, Tensor):
            return _constant(constant)
        node = v.producer
        assert node is not None
        attributes = "".join(f", {k}={_shown(a.value)}" for k, a in sorted(node.attributes.items())
                             if a.value != _default(work, node, k))
        domain = f"{node.domain}." if node.domain else ""
        made = f"{domain}{node.op_type}({', '.join(map(text, node.inputs))}{attributes})"
        if len(node.outputs) > 1:
            made += f"[{node.outputs.index(v)}]"
        if sum(v.uses.values()) > 1:
            names[v] = f"t{len(names)}"
            lines.append(f"{names[v]} = {made}")
            return names[v]
        return made

    results = [text(v) for v in graph.outputs]
    return "\n".join([*lines, ", ".join(results)])


def _shown(x: Any) -> str:
    return f"{x:.6g}" if isinstance(x, float) else repr(x)


def _constant(t: Tensor) -> str:
    numbers = t.numpy()
    if t.size == 1:
        return f"{t.dtype.name}{list(t.shape)}:{float(numbers.reshape(-1)[0]):.5g}"
    small = t.dtype.is_integer and t.size <= 16
    return f"{t.dtype.name}{list(t.shape)}{':' + str(numbers.reshape(-1).tolist()) if small else ''}"


def _default(work: Work, node: Any, name: str) -> Any:
    found = work.meaning(node)
    return None if found is None or name not in found[1].attributes else found[1].attributes[name].default


def hold(pair: Pair, pipeline: Pipeline) -> None:
    """Optimise the left side; it must read as the right side, and give the same numbers as before."""
    left = _Reader(pair, {"": pair.opset})
    model = left.model(pair.left)
    whole = inlined(model, private=True)
    work = Work(whole.model, whole.opsets)
    pipeline.run(work)
    got = printed(work)
    if pair.right == "unchanged":
        reader, text = _Reader(pair, {"": pair.opset}), pair.left
    else:
        reader, text = _Reader(pair, NEWEST_OPSETS), pair.right
    wanted = Work(reader.model(text))
    _FOLD.run(wanted)
    assert got == printed(wanted), f"\n{pair.left}\nbecame\n{got}\ninstead of\n{printed(wanted)}"
    if pair.right == "unchanged":
        return
    for draw in range(2 if pair.finite else 3):
        feeds = _feeds(model, draw)
        before = Evaluator(model).run(feeds)
        after = Evaluator(whole.model, opsets=whole.opsets).run(feeds)
        for name, want in before.items():
            d = difference(after[name], want, rtol=1e-5 if want.dtype != np.float16 else None)
            assert d.ok, f"{pair.left}\n{name} differs by {d.max_abs} in draw {draw}: {d.why} ({d.mismatches})"


def _feeds(model: Model, draw: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(draw)
    sizes: dict[str, int] = {}
    feeds = {}
    for v in model.graph.inputs:
        assert isinstance(v.type, TensorType) and v.type.shape is not None
        shape = [d if isinstance(d, int) else sizes.setdefault(str(d), int(rng.integers(1, 6))) for d in v.type.shape]
        t = v.type.dtype
        x = rng.standard_normal(shape) * 3
        if t is dtypes.BOOL:
            x = x > 0
        elif t.is_integer:
            x = np.abs(x).astype(np.int64) % 3
        elif draw == 2 and x.size:
            flat = x.reshape(-1)
            some = rng.random(flat.size) < 0.3
            flat[some] = rng.choice([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e30, -1e-30], int(some.sum()))
        with np.errstate(all="ignore"):
            feeds[v.name] = np.asarray(x).astype(t.numpy)
    return feeds


def golden(path: Path) -> Any:
    """The test parameters of a file."""
    return pytest.mark.parametrize("pair", pairs(path), ids=str)


