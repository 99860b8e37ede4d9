"""The plan of one compiled segment: its expressions as steps over buffers, in order.

A `Program` is what becomes one C function: inputs, weights and outputs by slot, the symbols of its sizes, and a block
of steps. A step is a loop nest, a call of a kernel (with what is done to its finished tiles), a loop or a branch with
blocks of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from gesher.base.dtypes import INT64, DType
from gesher.base.errors import CompileError
from gesher.primitives import CannotLower, Expr, inner
from gesher.primitives.simplify import expand, fold_constants, simplify
from gesher.symbolic import Dim, DimLike, decide_eq, fresh, product

from . import indexing
from .byte_tables import as_tables
from .demands import Demand
from .fuse import Fusion, fuse, is_scalar_constant, needs, order_of
from .halves import keep_halves
from .integer_layout import channels_last
from .kernel import Kernel
from .layout import blocked_layout
from .loops import (
    Buffer,
    For,
    Index,
    IndexValue,
    Load,
    Nest,
    Number,
    Scalar,
    Store,
    dims_of,
    reads,
    verify,
    walk,
    writes,
)
from .matching import match
from .moves import Transpose
from .nests import At, Puller, Scope, describe
from .packed import moved
from .steps import BranchStep, KernelStep, LoopStep, NestStep, Program, Step
from .volumes import as_pictures

# Types with a spelling in C, whole bytes each.
_COMPILED = frozenset(("float", "double", "float16", "bfloat16", "bool", "int8", "int16", "int32", "int64", "uint8",
                       "uint16", "uint32", "uint64"))


def prepared(roots: Sequence[Expr]) -> list[Expr]:
    """The roots simplified, constants folded, and composites without a kernel expanded."""
    roots = channels_last(as_pictures(roots))
    for _ in range(2):
        roots = simplify(expand(roots, lambda e: match(e) is not None))
        roots = fold_constants(roots, moved=moved)
    roots = as_tables(roots)
    blocked = blocked_layout(roots)
    if blocked != list(roots):
        blocked = fold_constants(simplify(expand(blocked, lambda e: match(e) is not None)), moved=moved)
    return blocked


def check_types(roots: Sequence[Expr], seen: set[Expr] | None = None) -> None:
    """Refuse what has no C type. What is in `seen` was checked before; what is checked now is put there.

    Raises:
        CannotLower: strings, complex numbers, narrow types.
    """
    seen = set() if seen is None else seen
    pending = list(roots)
    fresh_ones: list[Expr] = []
    while pending:
        e = pending.pop()
        if e in seen:
            continue
        seen.add(e)
        fresh_ones.append(e)
        if e.dtype.name != "undefined" and e.dtype.name not in _COMPILED:
            seen.difference_update(fresh_ones)
            raise CannotLower(f"{e.prim} of type {e.dtype.name} is not compiled")
        pending.extend((*e.args, *inner(e), *e.params.get("meaning", ())))


def build(name: str, inputs: Sequence[Expr], roots: Sequence[Expr], names: Sequence[str] = (),
          taken: set[str] | None = None, demands: Sequence[Demand] = ()) -> Program:
    """Plan one segment.

    Args:
        name: of its C function.
        inputs: the expressions whose values are fed, in the order of slots.
        roots: what is computed, in the order of slots; prepared already.
        names: of the outputs, for people.
        taken: identifiers that the C file has already; those of this segment are put there.
        demands: what sizes must be for it to be right.
    """
    return _Planner(name, inputs, roots, names, set() if taken is None else taken, demands).run()


class _Planner:
    def __init__(self, name: str, inputs: Sequence[Expr], roots: Sequence[Expr], names: Sequence[str], taken: set[str],
                 demands: Sequence[Demand]):
        self.program = Program(name, demands=list(demands))
        self.inputs, self.roots = inputs, roots
        self.output_names = list(names) or [""] * len(roots)
        self.taken = taken
        taken |= _RESERVED
        self.leaves: dict[Expr, Buffer] = {}
        self.together: set[Expr] = set()    # what the kernel of another item of its bundle computes

    def name(self, hint: str) -> str:
        """A C identifier that is still free."""
        base = re.sub(r"\W+", "_", hint.split("/")[-1] or hint).strip("_")[:40] or "t"
        if base[0].isdigit():
            base = "t" + base
        if _LOCAL.fullmatch(base):
            base += "_"
        found, n = base, 1
        while found in self.taken:
            n += 1
            found = f"{base}_{n}"
        self.taken.add(found)
        return found

    def buffer(self, hint: str, dtype: DType, shape: Sequence[DimLike], **more: Any) -> Buffer:
        made = Buffer(self.name(hint), dtype, tuple(shape), **more)
        if made.place == "arena":
            self.program.buffers.append(made)
        elif made.place == "slice":
            self.program.pointers.append(made)
        return made

    def run(self) -> Program:
        program = self.program
        for slot, e in enumerate(self.inputs):
            made = self.buffer(e.name or "input", e.dtype, e.shape, place="input", slot=slot)
            program.inputs.append(made)
            self.leaves[e] = made
        targets: list[tuple[Expr, Buffer]] = []
        for slot, (e, hint) in enumerate(zip(self.roots, self.output_names)):
            made = self.buffer(hint or e.name or "output", e.dtype, e.shape, place="output", slot=slot)
            program.outputs.append(made)
            targets.append((e, made))
        program.steps = self.block(targets, self.leaves, {})
        keep_halves(program)
        program.symbols = self.symbols()
        sizes = frozenset((*program.symbols, *program.counters))
        for step in program.all_steps():
            if isinstance(step, NestStep):
                verify(step.nest, sizes)
            elif isinstance(step, KernelStep) and step.tile is not None:
                verify(step.tile, sizes | frozenset(step.symbols))
        return program

    def symbols(self) -> list[Dim]:
        """Every size symbol, in order of first use: inputs first."""
        program = self.program
        found: dict[Dim, None] = {}

        def note(d: Any) -> None:
            if isinstance(d, Dim):
                for s in sorted(d.symbols(), key=lambda s: s._key):
                    found.setdefault(s)

        def noted(d: DimLike) -> str:
            note(d)
            return ""

        for buffer in (*program.inputs, *program.outputs, *program.weights, *program.buffers, *program.pointers):
            for d in buffer.shape:
                note(d)
        for demand in program.demands:
            for s in sorted(demand.symbols(), key=lambda s: s._key):
                found.setdefault(s)
        inner: set[Dim] = set(program.counters)
        for step in program.all_steps():
            nests = [step.nest] if isinstance(step, NestStep) else []
            if isinstance(step, KernelStep):
                step.kernel.fields(noted, lambda e: "")
                for extent, moves in step.kernel.around():
                    note(extent)
                    for d in moves.values():
                        note(d)
                inner |= set(step.symbols)
                if step.tile is not None:
                    nests.append(step.tile)
            elif isinstance(step, LoopStep):
                note(step.count)
            for nest in nests:
                for st in walk(nest.body):
                    if isinstance(st, (For, Index)):
                        inner.add(st.symbol)
                for d in dims_of(nest):
                    note(d)
        return [s for s in found if s not in inner]

    # Blocks

    def given(self, e: Expr) -> Any:
        """The known value of a small integer expression, where it says more than the expression itself."""
        if e.prim in ("constant", "size", "iota", "input", "parameter"):
            return None
        if not (e.dtype.is_integer or e.dtype.name == "bool"):
            return None
        if e.prim in ("broadcast", "reshape") and is_scalar_constant(e.args[0]):
            return None
        size = product(e.shape)
        if not isinstance(size, int) or not 0 < size <= 64 or e.scopes:
            return None
        return e.builder.known(e)

    def block(self, targets: Sequence[tuple[Expr, Buffer]], leaves: dict[Expr, Buffer],
              ready: dict[Expr, Any]) -> list[Step]:
        """The steps that compute each target into its buffer."""
        roots = [e for e, _ in targets]
        outside = set(leaves) | set(ready)
        given: dict[Expr, Any] = {}
        for e in order_of(roots, outside, set()):
            value = self.given(e)
            if value is not None:
                given[e] = value
        extra: list[Expr] = []
        order = order_of(roots, outside, set(given))
        seen: set[Expr] = set()
        while True:
            # Bodies of loops read what is computed here, which may hold loops again.
            bundles = [e.args[0] for e in order if e.prim == "item" and e.args[0].prim in ("loop", "branch")]
            fresh_ones = [b for b in dict.fromkeys(bundles) if b not in seen]
            if not fresh_ones:
                break
            for b in fresh_ones:
                seen.add(b)
                extra += [x for x in self.captured(b, set(given)) if x not in outside and x not in extra]
            order = order_of([*roots, *extra], outside, set(given))
        # Kernels may ask for constants of their own, and not read those that their expression has.
        order = order_of([*roots, *extra], outside, set(given), {})
        weights = {e for e in order if e.prim == "constant" and not is_scalar_constant(e)}
        local = dict(leaves)
        for e in order:
            if e in weights:
                local[e] = self.weight(e)
        fusion = fuse(roots, set(local) | set(ready), set(given), extra)
        buffers = dict(local)
        # A result is computed where it belongs; what is a leaf, or wanted twice, is copied.
        copies: list[tuple[Expr, Buffer]] = []
        elsewhere: set[Expr] = set()
        for e, target in targets:
            x = e.args[0] if e.prim == "reshape" and e in fusion.kept and e not in given else e
            if x is not e and e not in buffers and x in fusion.kept and x not in buffers and x not in roots \
                    and x not in given and (x.prim != "item" or x in fusion.kernels):
                # The same numbers in the same order: computed there at once.
                buffers[x] = buffers[e] = target
                elsewhere.add(e)
                continue
            if e in buffers or e in ready or e not in fusion.kept or (e.prim == "item" and e not in fusion.kernels):
                copies.append((e, target))
            else:
                buffers[e] = target
        steps: list[Step] = []
        started = {end: e for e, end in fusion.epilogues.items()}
        for e in fusion.kept:
            if e in local or e in elsewhere:
                continue
            if e.prim == "item" and e not in fusion.kernels:
                if e not in buffers:
                    self.bundle(e.args[0], buffers, ready, steps)
                continue
            if decide_eq(product(e.shape), 0):
                buffers.setdefault(e, self.buffer(e.name or e.prim, e.dtype, e.shape))
                continue
            steps += self.step(e, buffers, ready, fusion, started.get(e), given)
        for e, target in copies:
            steps += self.copy(e, target, buffers, ready, given)
        return steps

    def captured(self, bundle: Expr, given: set[Expr]) -> list[Expr]:
        """What the body of a loop reads that does not depend on its turns and costs something. What may fail stays
        inside: perhaps there is no turn, or an arm of a branch is never taken."""
        if bundle.prim != "loop":
            return []
        found: dict[Expr, None] = {}
        risky: dict[Expr, bool] = {}
        seen: set[Expr] = set()
        stack = [*bundle.params["carried_out"], *bundle.params["stacked_out"]]
        while stack:
            e = stack.pop()
            if e in seen:
                continue
            seen.add(e)
            # Of this loop, or of one inside it.
            if not e.scopes <= bundle.scopes or self._may_fail(e, risky):
                if e.prim == "item" and e.args[0].prim in ("loop", "branch"):
                    inner = e.args[0].params
                    stack += [x for k in ("carried_out", "stacked_out", "then", "other") for x in inner.get(k, ())]
                stack += needs(e, given)
            elif e.prim != "parameter" and not all(
                    x.prim in ("constant", "size", "iota", "broadcast", "reshape") for x in order_of([e], (), given)):
                found[e] = None
        return list(found)

    def _may_fail(self, e: Expr, known: dict[Expr, bool]) -> bool:
        """Whether computing `e` asks for an element that may not be there; what lies in memory already was computed."""
        if e not in known:
            known[e] = False
            known[e] = e not in self.leaves and (
                (e.prim in _INDEXED and e.args[1].prim != "constant")
                or any(self._may_fail(a, known) for a in (*e.args, *inner(e))))
        return known[e]

    def weight(self, e: Expr) -> Buffer:
        held = self.leaves.get(e)
        if held is None:
            program = self.program
            held = self.buffer(e.name or "weight", e.dtype, e.shape, place="weight", slot=len(program.weights))
            program.weights.append(held)
            program.values.append(e.params["value"])
            self.leaves[e] = held
        return held

    def puller(self, buffers: dict[Expr, Buffer], ready: dict[Expr, Any], given: dict[Expr, Any]) -> Puller:
        known = {e: self._known_element(e, value) for e, value in given.items() if e not in buffers}
        return Puller(buffers, {**known, **ready})

    def _known_element(self, e: Expr, value: Any) -> Any:
        if decide_eq(product(e.shape), 1) is not True:
            raise CompileError(f"a known value of shape {e.shape} has no buffer")
        one = value.reshape(-1).tolist()[0]

        def element(index: At) -> Scalar:
            return IndexValue(one, e.dtype) if isinstance(one, Dim) else Number(one, e.dtype)

        return element

    def step(self, e: Expr, buffers: dict[Expr, Buffer], ready: dict[Expr, Any], fusion: Fusion, start: Expr | None,
             given: dict[Expr, Any]) -> list[Step]:
        """The steps that compute `e` into its buffer, which is made where it has none."""
        if e not in buffers:
            buffers[e] = self.buffer(e.name or e.prim, e.dtype, e.shape)
        target = buffers[e]
        if e in given:
            return [self.known(e, given[e], target)]
        if start is not None:
            return [self.kernel(start, fusion.kernels[start], target, buffers, ready, given, end=e)]
        if e in fusion.kernels:
            kernel = fusion.kernels[e]
            if kernel.several:
                if e in self.together:
                    return []
                kernel.also = [x for x in fusion.kept if x is not e and x.prim == "item" and x.args[0] is e.args[0]
                               and x not in self.leaves and decide_eq(product(x.shape), 0) is not True]
                for x in kernel.also:
                    if x not in buffers:
                        buffers[x] = self.buffer(x.name or x.prim, x.dtype, x.shape)
                self.together.update(kernel.also)
            return [self.kernel(e, kernel, target, buffers, ready, given)]
        moved = Transpose.of(e)
        if moved is not None and moved.operands[0] in buffers:
            return [self.kernel(e, moved, target, buffers, ready, given)]
        others = {k: v for k, v in buffers.items() if k is not e}
        small = {k: v for k, v in given.items() if decide_eq(product(k.shape), 1)}
        puller = self.puller(others, ready, small)
        return [self.nest_step(n) for n in puller.nests(e, target, self.name(f"{e.prim}_{target.name}"))]

    def nest_step(self, nest: Nest) -> NestStep:
        return NestStep(nest, reads(nest), writes(nest))

    def known(self, e: Expr, value: Any, target: Buffer) -> NestStep:
        body: list[Any] = []
        for i, v in enumerate(value.reshape(-1).tolist()):
            scalar: Scalar = IndexValue(v, e.dtype) if isinstance(v, Dim) else Number(v, e.dtype)
            body.append(Store(target, i, scalar))
        return self.nest_step(Nest(self.name(f"sizes_{target.name}"), f"{describe(e)}, known from sizes", body))

    def copy(self, e: Expr, target: Buffer, buffers: dict[Expr, Buffer], ready: dict[Expr, Any],
             given: dict[Expr, Any]) -> list[Step]:
        if decide_eq(product(e.shape), 0):
            return []
        if e in given and e not in buffers:
            return [self.known(e, given[e], target)]
        puller = self.puller(buffers, ready, {k: v for k, v in given.items() if decide_eq(product(k.shape), 1)})
        nest = puller.nest(e.shape, self.name(f"copy_{target.name}"), f"{target.name} = {describe(e)}",
                           lambda index, scope: scope.statements.append(
                               Store(target, indexing.linear(e.shape, index), puller.value(e, index, scope))))
        return [self.nest_step(nest)]

    def kernel(self, e: Expr, kernel: Kernel, target: Buffer, buffers: dict[Expr, Buffer], ready: dict[Expr, Any],
               given: dict[Expr, Any], end: Expr | None = None) -> KernelStep:
        absorbed = end is not None and kernel.absorbs(end, {k for k in buffers if k is not end})
        pointers = {x: buffers[x] for x in kernel.operands}
        also = {x: buffers[x] for x in kernel.also}
        step = KernelStep(self.name(f"{e.prim if e.prim != 'item' else e.args[0].params['name']}_{target.name}"),
                          describe(e), kernel, {**pointers, **also}, target, set(pointers.values()),
                          {target, *also.values()})
        if absorbed:
            assert end is not None
            step.comment = f"{step.comment}, then {describe(end)}"
            return step
        start = e
        if end is None:
            if kernel.changes is None:
                return step
            start, end = kernel.changes
        batch, m, n, ldc = (fresh(w) for w in ("batch", "row", "column", "ldc"))
        room = fresh("tile")
        tile = Buffer("tile", e.dtype, (room,), place="slice")
        held: dict[At, DimLike] = {}

        def element(index: At) -> Scalar:
            if index not in held:
                raise CompileError(f"an epilogue asks for {index}, the tile holds {list(held)}")
            return Load(tile, held[index])

        others = {k: v for k, v in buffers.items() if k is not end}
        puller = self.puller(others, {**ready, start: element},
                             {k: v for k, v in given.items() if decide_eq(product(k.shape), 1)})
        rows, columns = fresh("rows"), fresh("columns")

        def make(at: At, scope: Scope) -> None:
            i, j = at
            index = tuple(kernel.tile(batch, m + i, n + j))
            held[index] = i * (kernel.columns or ldc) + j
            # Where the result has one row or column only, its index does not tell that the tile's does move.
            scope.barrier = not {i, j} <= indexing.symbols(index)
            to, at_ = (target, indexing.linear(end.shape, index)) if kernel.apart else (tile, held[index])
            scope.statements.append(Store(to, at_, puller.compute(end, index, scope)))

        word = "then" if start is e else "with scores as"
        step.tile = puller.nest((rows, kernel.columns or columns), f"{step.name}_tile", f"{word} {describe(end)}", make)
        step.symbols = (batch, m, n, ldc, rows, columns, room)
        step.tile_buffer = tile
        step.reads |= reads(step.tile) - {tile}
        return step

    # Loops and branches

    def bundle(self, bundle: Expr, buffers: dict[Expr, Buffer], ready: dict[Expr, Any], steps: list[Step]) -> None:
        """The step of a loop or branch; its parts get buffers."""
        parts = bundle.builder.parts(bundle)
        if bundle.prim == "loop":
            steps.append(self.loop(bundle, parts, buffers, ready))
        elif bundle.prim == "branch":
            steps.append(self.branch(bundle, parts, buffers, ready))
        else:
            raise CompileError(f"the composite {bundle.params['name']} was not expanded")

    def inside(self, buffers: dict[Expr, Buffer]) -> dict[Expr, Buffer]:
        return {**buffers, **{e: b for e, b in self.leaves.items() if e not in buffers}}

    def loop(self, bundle: Expr, parts: list[Expr], buffers: dict[Expr, Buffer], ready: dict[Expr, Any]) -> LoopStep:
        p = bundle.params
        carried, scanned = bundle.args[1:1 + p["carried"]], bundle.args[1 + p["carried"]:]
        counter = fresh("turn")
        self.program.counters.append(counter)
        index, *rest = p["parameters"]
        inside = self.inside(buffers)
        targets: list[tuple[Expr, Buffer]] = []
        turns = []
        for parameter, start, out, part in zip(rest, carried, p["carried_out"], parts):
            two = (self.buffer("even", start.dtype, start.shape), self.buffer("odd", start.dtype, start.shape))
            over = (buffers[start], *two)
            now = self.buffer("carried", start.dtype, start.shape, place="slice", over=over)
            then = self.buffer("next", start.dtype, start.shape, place="slice", over=two)
            inside[parameter] = now
            buffers[part] = now
            targets.append((out, then))
            turns.append((now, buffers[start], then, two))
        slices = []
        for parameter, source in zip(rest[len(carried):], scanned):
            row = self.buffer("row", source.dtype, source.shape[1:], place="slice", over=(buffers[source],))
            inside[parameter] = row
            slices.append((row, buffers[source]))
        stacked = []
        for part, out in zip(parts[len(carried):], p["stacked_out"]):
            whole = self.buffer("stacked", out.dtype, part.shape)
            buffers[part] = whole
            row = self.buffer("out_row", out.dtype, out.shape, place="slice", over=(whole,))
            targets.append((out, row))
            stacked.append((row, whole))
        body = self.block(targets, inside, {**ready, index: lambda at: IndexValue(counter, INT64)})
        return LoopStep(self.name("loop"), p["length"], counter, body, turns, slices, stacked,
                        {b for _, b, _, _ in turns} | {b for _, b in slices} | _all_reads(body),
                        {x for t in turns for x in (t[0], t[2], *t[3])} | {b for _, b in stacked},
                        None if p["going"] is None else turns[p["going"]][0])

    def branch(self, bundle: Expr, parts: list[Expr], buffers: dict[Expr, Buffer],
               ready: dict[Expr, Any]) -> BranchStep:
        results = []
        for part in parts:
            buffers[part] = self.buffer("branch", part.dtype, part.shape)
            results.append(buffers[part])
        outside = {e: b for e, b in self.inside(buffers).items() if e not in parts}
        then = self.block(list(zip(bundle.params["then"], results)), outside, ready)
        other = self.block(list(zip(bundle.params["other"], results)), outside, ready)
        condition = buffers[bundle.args[0]]
        return BranchStep(self.name("branch"), condition, then, other,
                          {condition} | _all_reads(then) | _all_reads(other), set(results))


# Primitives that read or write where data say.
_INDEXED = frozenset(("gather", "gather_along", "gather_nd", "scatter_along", "scatter_nd"))


def _all_reads(steps: Sequence[Step]) -> set[Buffer]:
    return {b for s in steps for b in s.reads}


# Names of variables inside nests.
_LOCAL = re.compile(r"acc\d*_key|(x|v|c|w|acc|best|where|won|held|ok|at_ok|i|turn|size|n)_?\d*|(a|b|c|y)0")
# Words of C, of the frame, and of the functions that are written around the nests.
_RESERVED = frozenset((
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "bool",
    "main", "call", "arena", "failed", "scratch", "f", "v", "pool", "begin", "end", "thread", "arg", "tile",
    "context", "ldc", "batch", "row0", "column0", "rows", "columns", "t", "i", "j", "k", "Frame", "abs", "exp",
    "log", "sin", "cos", "tan", "pow", "sqrt", "floor", "ceil", "round", "trunc", "fabs", "erf", "tanh", "sinh",
    "cosh", "asin", "acos", "atan", "min", "max", "signbit", "y0", "y1", "yn", "j0", "j1", "jn", "gamma", "index",
    "time", "clock", "rand", "read", "write", "open", "close", "select", "link", "pipe", "exit", "abort", "malloc",
    "free",
))
