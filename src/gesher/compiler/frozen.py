"""Compiled sessions on disk: what a session needs to run, without inferring, lowering and planning the model again.

    sessions/<key>/   plan.json  weights.bin  meta.json

`key` names the model (`digest`), the processor, the options and Gesher itself. `plan.json` tells the library (an entry
of `cache.MODELS`), what is fed and given out, which sizes follow from which shapes, and what sizes must be;
`weights.bin` holds the weights as the kernels read them, each from a multiple of 64 bytes on, and is mapped.

What a reader would guess wrong: only sessions that are one segment from inputs to outputs are frozen. Models with
nodes left to reference rules are planned at each load. Where a run settles conditions, each way in which they came out
is kept, with the conditions, and read back when a run wants it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gesher.base import dtypes, knobs
from gesher.base.errors import GesherError
from gesher.ir import Model, Value
from gesher.primitives import Builder, Expr
from gesher.symbolic import Dim, DimLike, bounds, product

from . import cache, cpu
from .demands import Demand
from .digest import digest, house
from .loops import Buffer
from .lowered import Lowered, Stage
from .packed import ALIGNMENT, array_of
from .steps import Program
from .written import Symbols, condition, condition_of

if TYPE_CHECKING:
    from .session import CompiledSession
    from .variant import Variant

PLAN = "plan.json"
SESSIONS = cache.Shelf("sessions", (PLAN, cache.WEIGHTS), PLAN)
# Ways in which the conditions of one session came out that are kept.
MOST_VARIANTS = 8
# Changes with what `plan.json` holds.
_FORM = 2


@dataclass(frozen=True, slots=True)
class Frozen:
    """A session read back: what `lower` would have found, the program without its steps, and the library."""

    lowered: Lowered
    program: Program
    inputs: list[Value]
    outputs: list[Value]
    entry: cache.Entry


def key_for(model: Model, told: Mapping[str, str]) -> str:
    """The name of a model's session, with what `told` counts."""
    return cache.key_of({**told, "model": digest(model)})


def told(prepared_by: str, isa: str, precision: str = "f32", threads: int = 1) -> dict[str, str]:
    """All that names a session but its model.

    Args:
        prepared_by: what makes the model ready (the optimiser), by name.
        isa: the instruction set asked for, "" for this processor.
        precision: of products.
        threads: as `target.about` counts them.
    """
    return {"gesher": house(), "prepared": prepared_by, "form": str(_FORM), "cpu": isa or cpu.here().key,
            "compiler": knobs.CC.text, "precision": precision, "threads": str(threads)}


def freeze(session: CompiledSession, variant: Variant, key: str) -> bool:
    """Keep one way of running a session that was just planned, where it can be kept; whether it was.

    One for which conditions were settled is kept beside those for which they came out otherwise.
    """
    plan = _plan_of(session, variant)
    if plan is None:
        return False
    if plan["guards"]:
        key = next((k for k in variant_keys(key) if cache.find(k, SESSIONS) is None), "")
        if not key:
            return False
    values = variant.programs[0].values

    def make(folder: Path) -> dict[str, Any]:
        with open(folder / cache.WEIGHTS, "wb") as out:
            for value in values:
                out.write(bytes(-out.tell() % ALIGNMENT))
                out.write(np.ascontiguousarray(array_of(value)).reshape(-1).view(np.uint8).data)
        (folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")
        return {}

    cache.get_or_build(key, make, SESSIONS)
    return True


def variant_keys(key: str) -> list[str]:
    """The names of the ways in which one session is kept: the first is `key` itself."""
    return [key, *(cache.key_of({"session": key, "variant": str(i)}) for i in range(1, MOST_VARIANTS))]


def _plan_of(session: CompiledSession, variant: Variant) -> dict[str, Any] | None:
    graphs = session.graphs()
    if len(graphs) != 1 or variant not in graphs[0].variants or len(variant.stages) != 1:
        return None
    ready, lowered = variant.stages[0], variant.lowered
    if ready.segment is None or ready.stage.fallbacks or variant.module is None:
        return None
    fed = {v: v.name for v in lowered.graph.inputs if v.constant is None}
    outputs = [variant.source(v) for v in lowered.graph.outputs]
    if any(v not in fed for v in (*lowered.leaves, *ready.inputs)) or len(set(fed.values())) != len(fed) \
            or any(v not in fed and v not in ready.outputs for v in outputs):
        return None
    program, symbols = ready.segment.program, Symbols()
    names = {e: fed[v] for v, e in lowered.leaves.items()}
    guards = [[condition(e, names, symbols), taken] for e, taken in lowered.guards]
    if any(written is None for written, _ in guards):
        return None
    nbytes = sum(b.dtype.numpy.itemsize * _elements(b.shape) for b in program.weights)
    # What would push everything else out of the cache is packed anew each time.
    if nbytes > knobs.CACHE_MB.number * 500_000:
        return None
    places, at = [], 0
    for b in program.weights:
        at += -at % ALIGNMENT
        places.append([at, b.dtype.name, [int(d) for d in b.shape if isinstance(d, int)]])
        at += b.dtype.numpy.itemsize * _elements(b.shape)
    uncertain = [b for b in (*program.buffers, *program.pointers) if any(map(_may_be_negative, b.shape))]
    return {
        "library": variant.module.entry.folder.name,
        "leaves": [[fed[v], e.dtype.name, symbols.row(e.shape), symbols.row(lowered.learned.get(v, ()))]
                   for v, e in lowered.leaves.items()],
        "inputs": [fed[v] for v in ready.inputs],
        "outputs": [[b.name, b.dtype.name, symbols.row(b.shape)] for b in program.outputs],
        "results": [["fed", fed[v]] if v in fed else ["made", ready.outputs.index(v)] for v in outputs],
        "order": symbols.row(program.symbols),
        "buffers": [[b.name, b.dtype.name, symbols.row(b.shape)] for b in uncertain],
        "demands": [[d.kind, symbols.code(d.a), symbols.code(d.b), d.what, symbols.row(d.turns)]
                    for d in program.demands],
        "weights": places,
        "guards": guards,
        "known": symbols.row(list(lowered.symbols)),
        "symbols": symbols.table,
    }


def _elements(shape: Sequence[DimLike]) -> int:
    """Of a weight, whose sizes are numbers."""
    return int(product(shape))  # type: ignore[arg-type]


def _may_be_negative(d: DimLike) -> bool:
    low = bounds(d)[0] if isinstance(d, Dim) else d
    return low is None or low < 0


def thaw(model: Model, key: str) -> Frozen | None:
    """The session kept under `key`, for `model`; None where there is none that is whole."""
    kept = cache.find(key, SESSIONS)
    if kept is None:
        return None
    try:
        plan = json.loads((kept.folder / PLAN).read_text(encoding="utf-8"))
        entry = cache.find(plan["library"])
        return None if entry is None else _thawed(model, plan, entry, kept.folder / cache.WEIGHTS)
    except (OSError, ValueError, KeyError, IndexError, TypeError, GesherError) as e:
        knobs.debug(1, f"the kept session {key[:12]} cannot be used, the model is planned again: {e}")
        return None


def _thawed(model: Model, plan: dict[str, Any], entry: cache.Entry, weights: Path) -> Frozen:
    graph, builder, symbols = model.graph, Builder(), Symbols(plan["symbols"])
    by_name = {v.name: v for v in graph.inputs}
    leaves: dict[Value, Expr] = {}
    learned: dict[Value, list[Dim]] = {}
    for name, dtype, shape, elements in plan["leaves"]:
        leaves[by_name[name]] = builder.input(name, dtypes.BY_NAME[dtype], symbols.dims(shape))
        if elements:
            learned[by_name[name]] = [d for d in symbols.dims(elements) if isinstance(d, Dim)]
    inputs = [by_name[name] for name in plan["inputs"]]
    program = Program("kept", inputs=[_buffer(v.name, leaves[v], "input", i) for i, v in enumerate(inputs)])
    program.symbols = [d for d in symbols.dims(plan["order"]) if isinstance(d, Dim)]
    program.buffers = [Buffer(n, dtypes.BY_NAME[t], symbols.dims(shape)) for n, t, shape in plan["buffers"]]
    program.demands = [Demand(kind, symbols.decode(a), symbols.decode(b), what, symbols.dims(turns))
                       for kind, a, b, what, turns in plan["demands"]]
    room = np.memmap(weights, np.uint8, "r") if plan["weights"] and weights.stat().st_size else np.empty(0, np.uint8)
    for i, (at, dtype_name, shape) in enumerate(plan["weights"]):
        dtype = dtypes.BY_NAME[dtype_name]
        program.weights.append(Buffer(f"weight_{i}", dtype, tuple(shape), "weight", i))
        program.values.append(room[at:at + dtype.numpy.itemsize * _elements(shape)].view(dtype.numpy).reshape(shape))
    made: list[Value] = [Value(f"output {i}") for i in range(len(plan["outputs"]))]
    aliases: dict[Value, Any] = {}
    for v, (kind, which) in zip(graph.outputs, plan["results"]):
        if kind == "fed":
            if by_name[which] is not v:
                aliases[v] = by_name[which]
        elif made[which].name.startswith("output ") and v not in made:
            made[which] = v
        elif made[which] is not v:
            aliases[v] = made[which]
    stage = Stage()
    for i, (v, (name, dtype_name, shape)) in enumerate(zip(made, plan["outputs"])):
        e = builder.input(f"output {i}", dtypes.BY_NAME[dtype_name], symbols.dims(shape))
        program.outputs.append(_buffer(name, e, "output", i))
        stage.outputs[v] = e
    known = {d for d in symbols.dims(plan["known"]) if isinstance(d, Dim)}
    guards = [(condition_of(rows, builder, lambda name: leaves[by_name[name]], symbols), taken)
              for rows, taken in plan["guards"]]
    return Frozen(Lowered(graph, [stage], leaves, aliases, learned, guards, known), program, inputs, made, entry)


def _buffer(name: str, e: Expr, place: Any, slot: int) -> Buffer:
    return Buffer(name, e.dtype, e.shape, place, slot)
