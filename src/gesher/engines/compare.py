"""The same inputs through several engines, and what came out held side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gesher.base.errors import GesherError, RunError
from gesher.evaluator.difference import Difference, difference
from gesher.ir import Edit, Model, Node, TensorType, Value
from gesher.ir.files import from_bytes, to_bytes

from . import engine as engine_of
from . import prepare
from .protocol import Options


@dataclass(slots=True)
class Comparison:
    """What came of comparing: a row for each engine and output, and the engines that could not run."""

    baseline: str
    rows: list[Difference] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    first_layer: dict[str, tuple[str, Difference]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True where every engine ran and agrees."""
        return not self.failed and all(r.ok for r in self.rows)

    def worst(self, engine: str) -> float:
        """The largest absolute difference of an engine over all outputs."""
        return max((r.max_abs for r in self.rows if r.engine == engine), default=0.0)

    def as_json(self) -> dict[str, Any]:
        return {"baseline": self.baseline, "ok": self.ok, "failed": self.failed,
                "rows": [asdict(r) for r in self.rows],
                "first_layer": {e: {"place": place, **asdict(d)} for e, (place, d) in self.first_layer.items()}}


def compare(model: Model, engines: Sequence[str], feeds: Mapping[str, Any], *, rtol: float | None = None,
            atol: float | None = None, options: Options | None = None, layers: bool = False) -> Comparison:
    """Run `model` on each engine; the first is what the others are held against.

    An engine that cannot run the model is named in `failed`, and the others go on; where the first cannot, its error
    is raised. With `layers`, for each engine that differs the first intermediate value that does is looked for.
    """
    if len(engines) < 2:
        raise RunError("comparing takes two engines or more", advice="for example --engines reference,compiled")
    result = Comparison(engines[0])
    with prepare(model, engines[0], options) as session:
        truth = session.run(feeds)
    for name in engines[1:]:
        try:
            with prepare(model, name, options) as session:
                got = session.run(feeds)
        except GesherError as e:
            result.failed[name] = str(e)
            continue
        rows = [difference(got[o], truth[o], rtol=rtol, atol=atol, engine=name, output=o) for o in truth]
        result.rows += rows
        if layers and not all(r.ok for r in rows):
            found = first_difference(model, engines[0], name, feeds, rtol=rtol, atol=atol, options=options)
            if found is not None:
                result.first_layer[name] = found
    return result


# So many intermediate values are given out at a time: all at once could take the memory of the whole run.
_CHUNK = 64


def first_difference(model: Model, baseline: str, other: str, feeds: Mapping[str, Any], *, rtol: float | None = None,
                     atol: float | None = None, options: Options | None = None) -> tuple[str, Difference] | None:
    """The place and size of the first value of the main graph, in its order, on which two engines differ.

    Giving values out keeps an engine from fusing over them, so a difference that fusion makes may vanish: then the
    answer is None.
    """
    for chunk in _chunks(model):
        probe = from_bytes(to_bytes(model, external=False))
        by_name = {o.name: (n, o) for n in probe.graph.nodes for o in n.outputs if o is not None and o.name}
        wanted = [by_name[name] for name in chunk]
        Edit(probe).set_graph_outputs(probe.graph, [o for _, o in wanted])
        with prepare(probe, baseline, options) as session:
            truth = session.run(feeds)
        with prepare(probe, other, options) as session:
            got = session.run(feeds)
        for node, value in wanted:
            d = difference(got[value.name], truth[value.name], rtol=rtol, atol=atol, engine=other, output=value.name)
            if not d.ok:
                return node.place, d
    return None


def _chunks(model: Model) -> Iterator[list[str]]:
    from gesher.inference import infer

    facts = infer(model)

    def can_cross(node: Node, value: Value) -> bool:
        fact = facts.get(value)
        return bool(value.name) and fact is not None and isinstance(fact.type, TensorType) \
            and node.op_type not in ("Constant",)

    names = [o.name for n in model.graph.nodes for o in n.outputs if o is not None and can_cross(n, o)]
    for i in range(0, len(names), _CHUNK):
        yield names[i:i + _CHUNK]


def present(engines: Sequence[str]) -> list[str]:
    """Those of `engines` that can run here."""
    return [n for n in engines if engine_of(n).missing() is None]
