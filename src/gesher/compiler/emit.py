"""Programs as C for people to read: one comment and one function a loop nest, names from the model.

The shape of a file:

    typedef struct Frame { sizes; pointers } Frame;      what a run's functions share
    static void add_y(void* arg, begin, end, thread)     a nest; `begin` and `end` cut its outer loops among threads
    static int64_t places(Frame* f)                      where everything lies in the arena, and how large that is
    int64_t gs_arena_0(const GsCall*)                    bytes of the arena for these sizes
    int gs_run_0(const GsCall*)                          one run: 0, or an error code with a message

What a reader would guess wrong: the arena is laid out anew at each run, from the sizes of that run. It costs a few
additions a tensor, and one compilation serves all sizes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from gesher.base.dtypes import FLOAT, INT32
from gesher.base.errors import CompileError
from gesher.primitives import MAPS
from gesher.primitives.table import REDUCTIONS, computing
from gesher.symbolic import Dim, DimLike, bounds, substitute

from . import memory
from .loops import (
    Apply,
    Assign,
    Buffer,
    Fail,
    For,
    If,
    Index,
    IndexValue,
    Let,
    Load,
    Nest,
    Number,
    Store,
    Var,
    dims_of,
    reads,
    scalars,
    walk,
    writes,
)
from .objects import KernelObject
from .spelling import NARROW, SUFFIX, Spelling, bare, bitcast, c_type, cast, number, scalar_type
from .steps import BranchStep, KernelStep, LoopStep, NestStep, Program, Step

# Elements times cost below which a nest stays on one thread: waking the others takes microseconds.
ALONE = 40_000
# Additions' worth of a loop's turn from which on several are interleaved.
_LONG = 16


class Writer:
    """Writes one program."""

    def __init__(self, program: Program, index: int):
        self.program, self.index = program, index
        self.arena = memory.plan(program)
        self.lines: list[str] = []
        self.frame = f"Frame{index}"
        taken = {b.name for b in (*program.inputs, *program.outputs, *program.weights, *program.buffers,
                                  *program.pointers)}
        self.sizes: dict[Dim, str] = {}
        for s in program.symbols:
            base = "size"
            if not s.is_fresh:
                base = "n_" + "".join(c if c.isalnum() and c.isascii() else "_" for c in s.name).strip("_")
            name, k = base, 1
            while name in taken:
                k += 1
                name = f"{base}_{k}"
            taken.add(name)
            self.sizes[s] = name
        self.counters = {s: f"turn{i}" for i, s in enumerate(program.counters)}
        self.steps = list(program.all_steps())
        self.number_of = {s: i for i, s in enumerate(self.steps)}
        # Accumulators of the largest or smallest float, in loops where whole numbers stand for them.
        self.keys: dict[Var, str] = {}
        self.bits: set[Var] = set()  # those of half size whose bits have a name, too

    def text(self) -> str:
        """The C of this program, without headers."""
        self._frame()
        for step in self.steps:
            if isinstance(step, NestStep):
                self._nest(step.nest)
            elif isinstance(step, KernelStep):
                self._kernel(step)
        self._places()
        self._run()
        return _renumbered("\n".join(self.lines)) + "\n"

    def headers(self) -> list[str]:
        """The runtime's files that it needs."""
        found = dict.fromkeys(["gs_scalar.h", "gs_pool.h"])
        for step in self.steps:
            if isinstance(step, KernelStep):
                found[step.kernel.header] = None
        return list(found)

    def kernels(self) -> list[KernelObject]:
        """The kernels that it calls."""
        found = [s.kernel for s in self.steps if isinstance(s, KernelStep)]
        return [KernelObject(k.header, k.struct, k.function, k.scratch) for k in found]

    # The frame

    def _frame(self) -> None:
        p = self.program
        out = self.lines
        out.append("typedef struct {")
        out.append("  const GsCall* call;")
        out.append("  const char* failed;  // why the run must end with an error")
        names = [*self.sizes.values(), *self.counters.values()]
        if names:
            out.append("  int64_t " + ", ".join(names) + ";")
        out.append("  float* scratch;")
        for b in (*p.inputs, *p.weights):
            out.append(f"  const {c_type(b.dtype)}* {b.name};  // {_type_text(b)}")
        for b in (*p.outputs, *p.buffers, *p.pointers):
            out.append(f"  {c_type(b.dtype)}* {b.name};  // {_type_text(b)}")
        out.append(f"}} {self.frame};")
        out.append("")

    def _sizes_into(self, used: Iterable[Dim], names: dict[Dim, str]) -> list[str]:
        """Declarations of the sizes among `used`, which get their names."""
        symbols = {s for d in used for s in d.symbols()}
        lines = []
        for s, name in (*self.sizes.items(), *self.counters.items()):
            if s in symbols:
                names[s] = name
                lines.append(f"  const int64_t {name} = f->{name};")
        return lines

    # Nests

    def _nest(self, nest: Nest) -> None:
        out = self.lines
        names: dict[Dim, str] = {}
        out.append(f"// {nest.comment}")
        if not nest.body:
            out.append(f"static void {nest.name}(void* arg, int64_t begin, int64_t end, int thread) {{}}")
            out.append("")
            return
        out.append(f"static void {nest.name}(void* arg, int64_t begin, int64_t end, int thread) {{")
        out.append(f"  {self.frame}* const f = arg;")
        out += self._sizes_into(dims_of(nest), names)
        out += self._pointers(nest)
        spell = Spelling(names)
        loops: list[For] = []
        body = nest.body
        for _ in range(nest.parallel):
            assert isinstance(body[0], For)
            loops.append(body[0])
            body = body[0].body
        if not loops:
            self._body(nest.body, "  ", spell)
        elif len(loops) == 1:
            loop = loops[0]
            names[loop.symbol] = "i0"
            copied = copied_row(loop)
            if copied is not None:
                to, of = (f"{b.name} + {spell(at)} + begin" for b, at in copied)
                out.append(f"  memcpy({to}, {of}, (size_t)(end - begin) * sizeof *{copied[0][0].name});")
            else:
                if loop.vector:
                    out += ["#pragma omp simd", *_side_by_side(loop)]
                out.append("  for (int64_t i0 = begin; i0 < end; i0++) {")
                self._body(loop.body, "    ", spell)
                out.append("  }")
        else:
            out.append("  for (int64_t task = begin; task < end; task++) {")
            rest = "task"
            for n in range(len(loops) - 1, -1, -1):
                names[loops[n].symbol] = f"i{n}"
                if n == 0:
                    out.append(f"    const int64_t i0 = {rest};")
                else:
                    extent = spell(loops[n].extent)
                    out.append(f"    const int64_t i{n} = {rest} % {extent};")
                    rest = f"{rest} / {extent}"
            self._body(body, "    ", spell)
            out.append("  }")
        out.append("  (void)begin, (void)end, (void)thread;" if not loops else "  (void)thread;")
        out.append("}")
        out.append("")

    def _pointers(self, nest: Nest, besides: Buffer | None = None) -> list[str]:
        written = writes(nest)
        lines = []
        for b in sorted(reads(nest) | written, key=lambda b: b.name):
            if b is besides:
                continue
            const = "" if b in written else "const "
            lines.append(f"  {const}{c_type(b.dtype)}* restrict const {b.name} = f->{b.name};")
        return lines

    def _body(self, body: Sequence[Any], indent: str, spell: Spelling) -> None:
        out = self.lines
        for s in body:
            if isinstance(s, Let):
                const, text = "" if s.changes else "const ", self.scalar(s.value, spell)
                narrow = NARROW.get(s.var.dtype.name)
                self.bits.discard(s.var)
                if not s.changes and narrow is not None and text.startswith(f"gs_round_{narrow}("):
                    # Its bits may be stored as they are.
                    of = text.removeprefix(f"gs_round_{narrow}")
                    out.append(f"{indent}const {s.var.dtype.c} {s.var.name}_bits = gs_{narrow}_of_f32{of};")
                    text = f"gs_f32_of_{narrow}({s.var.name}_bits)"
                    self.bits.add(s.var)
                out.append(f"{indent}{const}{scalar_type(s.var.dtype)} {s.var.name} = {text};")
            elif isinstance(s, Assign):
                out.append(f"{indent}{self._assigned(s, spell)};")
            elif isinstance(s, Store):
                out.append(f"{indent}{s.buffer.name}[{bare(spell(s.index))}] = {self._narrowed(s, spell)};")
            elif isinstance(s, For):
                self._for(s, indent, spell)
            elif isinstance(s, If):
                out.append(f"{indent}if ({self._conditions(s.conditions, spell)}) {{")
                self._body(s.then, indent + "  ", spell)
                if s.other:
                    out.append(f"{indent}}} else {{")
                    self._body(s.other, indent + "  ", spell)
                out.append(f"{indent}}}")
            elif isinstance(s, Index):
                name = f"at_{s.ok.name}"
                size = spell(s.size)
                unsigned = s.value.dtype.kind == "uint"
                out.append(f"{indent}int64_t {name} = (int64_t){self.scalar(s.value, spell)};")
                if not unsigned:
                    out.append(f"{indent}if ({name} < 0) {name} += {size};")
                out.append(f"{indent}const uint8_t {s.ok.name} = {name} >= 0 && {name} < {size};")
                spell.names[s.symbol] = name
            elif isinstance(s, Fail):
                out.append(f'{indent}if (!{s.ok.name}) __atomic_store_n(&f->failed, "{s.message}", __ATOMIC_RELAXED);')

    def _assigned(self, s: Assign, spell: Spelling) -> str:
        if s.var in self.keys:
            assert isinstance(s.value, Apply)
            t, op = SUFFIX[s.var.dtype.name], s.value.op
            return f"{s.var.name}_key = gs_{op}_key_{t}({s.var.name}_key, {self.scalar(s.value.args[1], spell)})"
        return f"{s.var.name} = {self.scalar(s.value, spell)}"

    def _for(self, s: For, indent: str, spell: Spelling) -> None:
        out = self.lines
        copied = copied_row(s)
        if copied is not None:
            to, of = (f"{b.name} + {spell(at)}" for b, at in copied)
            extent = str(s.extent) if isinstance(s.extent, int) else f"gs_max_i64({bare(spell(s.extent))}, 0)"
            out.append(f"{indent}memcpy({to}, {of}, (size_t){extent} * sizeof *{copied[0][0].name});")
            return
        name = f"i{len(spell.names)}"
        spell.names[s.symbol] = name
        pragma = _reduction_pragma(s) if s.vector else None
        keyed = [] if pragma is None else [(v, op) for v, op in s.folds if _is_keyed(v, op)]
        for var, op in keyed:
            self.keys[var] = op
            t = SUFFIX[var.dtype.name]
            out.append(f"{indent}int{var.dtype.bits}_t {var.name}_key = gs_{op}_key_of_{t}({var.name});")
        if pragma is not None:
            out += [pragma, *_side_by_side(s)]
        out.append(f"{indent}for (int64_t {name} = 0; {name} < {bare(spell(s.extent))}; {name}++) {{")
        self._body(s.body, indent + "  ", spell)
        out.append(f"{indent}}}")
        for var, _ in keyed:
            del self.keys[var]
            out.append(f"{indent}{var.name} = gs_{SUFFIX[var.dtype.name]}_of_key({var.name}_key);")

    def _conditions(self, conditions: Sequence[Any], spell: Spelling) -> str:
        tests = []
        for c in conditions:
            if isinstance(c, Var):
                tests.append(c.name)
                continue
            value, low, high = c
            at = spell(value)
            if (b := bounds(value - low)[0]) is None or b < 0:
                tests.append(f"{at} >= {spell(low)}")
            tests.append(f"{at} < {spell(high)}")
        return " && ".join(tests)

    # Scalars

    def _narrowed(self, s: Store, spell: Spelling) -> str:
        narrow = NARROW.get(s.buffer.dtype.name)
        if s.value in self.bits and s.value.dtype is s.buffer.dtype:
            return f"{s.value.name}_bits"
        text = self.scalar(s.value, spell)
        return f"gs_{narrow}_of_f32({text})" if narrow else text

    def scalar(self, s: Any, spell: Spelling) -> str:
        """A scalar as a C expression."""
        if isinstance(s, Var):
            return s.name
        if isinstance(s, Number):
            return number(s.value, s.dtype)
        if isinstance(s, IndexValue):
            text = spell(s.dim)
            return text if s.dtype.name == "int64" else f"({scalar_type(s.dtype)}){text}"
        if isinstance(s, Load):
            text = f"{s.buffer.name}[{bare(spell(s.index))}]"
            narrow = NARROW.get(s.dtype.name)
            return f"gs_f32_of_{narrow}({text})" if narrow else text
        assert isinstance(s, Apply)
        args = [self.scalar(a, spell) for a in s.args]
        if s.op == "select":
            return f"({args[0]} ? {args[1]} : {args[2]})"
        if s.op == "cast":
            return cast(args[0], s.args[0].dtype, s.dtype)
        if s.op == "quotient":
            return f"gs_quotient_f32({args[0]}, {', '.join(number(v, s.dtype) for _, v in s.params)})"
        if s.op == "clip_cast":
            bounds = [number(v, s.args[0].dtype) for _, v in s.params]
            return f"({s.dtype.c})gs_clip_i32({args[0]}, {', '.join(bounds)})"
        if s.op == "rounded":
            return f"gs_rounded_f32({args[0]}, {', '.join(number(v, FLOAT) for _, v in s.params)})"
        if s.op == "count":
            low, high, zero = (v for _, v in s.params)
            text = f"gs_count_i32({args[0]}, {number(low, FLOAT)}, {number(high, FLOAT)})"
            return f"({s.dtype.c})({text} + {number(zero, INT32)})"
        if s.op == "bitcast":
            return bitcast(args[0], s.args[0].dtype, s.dtype)
        if s.op == "is_inf":
            asked = dict(s.params)
            tests = [f"{args[0]} == {sign}INFINITY" for sign, on in (("", asked["positive"]), ("-", asked["negative"]))
                     if on]
            return "(" + (" || ".join(tests) or "0") + ")"
        return self._map(s, args)

    @staticmethod
    def _map(s: Apply, args: list[str]) -> str:
        row, dtype = MAPS[s.op], s.args[0].dtype
        wide = computing(dtype)
        spelled = row.c_float if wide.is_float else row.c_int
        if not spelled:
            raise CompileError(f"the map {s.op} has no C spelling for {dtype.name}")
        unsigned = "uint64_t" if wide.bits == 64 else "uint32_t"
        text = spelled.format(*args, f="f" if wide.name == "float" else "", t=SUFFIX[wide.name], T=wide.c, U=unsigned)
        if wide is not dtype and row.gives == "same":
            return f"gs_round_{NARROW[dtype.name]}({text})"
        return text

    # Kernels

    def _kernel(self, step: KernelStep) -> None:
        out = self.lines
        kernel = step.kernel
        if step.tile is not None:
            self._tile(step)
        names = {**{s: f"f->{n}" for s, n in self.sizes.items()}, **{s: f"f->{n}" for s, n in self.counters.items()}}
        spell = Spelling(names)
        fields = kernel.fields(spell, lambda e: f"f->{step.pointers[e].name}")
        out.append(f"// {step.comment}: {kernel.describe()}")
        out.append(f"static {kernel.struct} {step.name}_of(const {self.frame}* f) {{")
        out.append(f"  {kernel.struct} v = {{0}};")
        out += [f"  v.{name} = {bare(text)};" for name, text in fields]
        out.append(f"  v.{kernel.output} = ({kernel.element()}*)f->{step.result.name};")
        if kernel.scratch:
            out.append("  v.scratch = (void*)f->scratch;")
        if step.tile is not None:
            out.append(f"  v.epilogue = {step.tile.name};")
            out.append("  v.context = (void*)f;")
        out.append("  return v;")
        out.append("}")
        if kernel.scratch:
            out.append(f"static int64_t {step.name}_scratch(const {self.frame}* f) {{")
            out.append(f"  const {kernel.struct} v = {step.name}_of(f);")
            empty = self._empty_test(step, spell)
            times = f" * {kernel.scratch_floats}" if kernel.scratch_floats > 1 else ""
            out.append(f"  return {empty}{kernel.scratch}(&v, gs_pool_size(f->call->pool)){times};")
            out.append("}")
        out.append(f"static void {step.name}({self.frame}* f) {{")
        out.append(f"  {kernel.struct} v = {step.name}_of(f);")
        around = kernel.around()
        indent = "  "
        if around:
            start = self._starts(step, around)
            out += [f"{indent}{line}" for line in start]
        for n, (extent, _) in enumerate(around):
            out.append(f"{indent}for (int64_t i{n} = 0; i{n} < {bare(spell(extent))}; i{n}++) {{")
            indent += "  "
        if around:
            pointers = sorted({k for _, moves in around for k in moves})
            for name in pointers:
                moved = " + ".join(f"i{n} * {spell(moves[name])}" for n, (_, moves) in enumerate(around)
                                   if moves.get(name, 0) != 0)
                out.append(f"{indent}v.{name} = {name}0{' + ' + moved if moved else ''};")
        out.append(f"{indent}{kernel.function}(&v, f->call->pool);")
        for _ in around:
            indent = indent[:-2]
            out.append(f"{indent}}}")
        out.append("}")
        out.append("")

    @staticmethod
    def _starts(step: KernelStep, around: Sequence[tuple[DimLike, dict[str, DimLike]]]) -> list[str]:
        pointers = sorted({k for _, moves in around for k in moves})
        output = step.kernel.output
        element = step.kernel.element()
        return [f"{'' if p == output else 'const '}{element}* const {p}0 = v.{p};" for p in pointers]

    def _empty_test(self, step: KernelStep, spell: Spelling) -> str:
        size = step.result.size
        # Of several results, one may be empty and the others not.
        return "" if step.kernel.several or isinstance(size, int) else f"{spell(size)} <= 0 ? 0 : "

    def _tile(self, step: KernelStep) -> None:
        out = self.lines
        tile = step.tile
        assert tile is not None
        batch, m, n, ldc, rows, columns = step.symbols[:6]
        names = {batch: "batch", m: "row0", n: "column0", ldc: "ldc", rows: "rows", columns: "columns"}
        out.append(f"// {tile.comment}")
        out.append(f"static void {tile.name}(void* context, {step.kernel.element()}* tile, int64_t ldc, int64_t batch, "
                   "int64_t row0, int64_t column0, int64_t rows, int64_t columns) {")
        out.append(f"  {self.frame}* const f = context;")
        out += self._sizes_into(dims_of(tile), names)
        out += self._pointers(tile, besides=step.tile_buffer)
        out.append("  (void)f, (void)batch, (void)row0, (void)column0;")
        self._body(tile.body, "  ", Spelling(names))
        out.append("}")

    # The whole

    def _places(self) -> None:
        out = self.lines
        spell = Spelling({s: f"f->{n}" for s, n in self.sizes.items()})
        out.append("// Where everything lies; gives the bytes of the arena.")
        out.append(f"static int64_t places{self.index}({self.frame}* f, uintptr_t arena) {{")
        out.append("  int64_t at = 0, size;")
        for place in self.arena.places:
            sizes = []
            for b in place.buffers:
                out.append(f"  f->{b.name} = ({c_type(b.dtype)}*)(arena + at);")
                sizes.append(bare(spell(b.size * b.dtype.numpy.itemsize)))
            unique = list(dict.fromkeys(sizes))
            known = [int(s) for s in unique if s.isdigit()]
            unique = [s for s in unique if not s.isdigit()] + ([str(max(known))] if known else [])
            text = reduce(lambda a, b: f"gs_max_i64({a}, {b})", unique)
            out.append(f"  size = {text};")
            out.append(f"  at += gs_round_up(size, {memory.ALIGNMENT});")
        out.append("  f->scratch = (float*)(arena + at);")
        out.append("  size = 0;")
        for step in self.steps:
            if isinstance(step, KernelStep) and step.kernel.scratch:
                out.append(f"  size = gs_max_i64(size, {step.name}_scratch(f));")
        out.append("  return at + size * (int64_t)sizeof(float);")
        out.append("}")
        out.append("")

    def _setup(self) -> list[str]:
        p = self.program
        lines = [f"  {self.frame} frame = {{0}}, *f = &frame;", "  f->call = call;"]
        lines += [f"  f->{name} = call->dims[{i}];" for i, name in enumerate(self.sizes.values())]
        return lines + [f"  f->{b.name} = call->inputs[{len(p.inputs) + b.slot}];" for b in p.weights]

    def _run(self) -> None:
        out, p = self.lines, self.program
        out.append(f"GS_EXPORT int64_t gs_arena_{self.index}(const GsCall* call) {{")
        out += self._setup()
        # Sizes only: the addresses are not used.
        out.append(f"  return places{self.index}(f, (uintptr_t)call->arena);")
        out.append("}")
        out.append("")
        out.append(f"GS_EXPORT int gs_run_{self.index}(const GsCall* call) {{")
        out += self._setup()
        out += [f"  f->{b.name} = call->inputs[{b.slot}];" for b in p.inputs]
        out += [f"  f->{b.name} = call->outputs[{b.slot}];" for b in p.outputs]
        out.append(f"  places{self.index}(f, (uintptr_t)call->arena);")
        out.append("  int64_t clock = 0;")
        out.append("  (void)clock;")
        self._steps(p.steps, "  ")
        out.append("  return 0;")
        out.append("}")

    def _steps(self, steps: Sequence[Step], indent: str) -> None:
        out = self.lines
        names = {**{s: f"f->{n}" for s, n in self.sizes.items()}, **{s: f"f->{n}" for s, n in self.counters.items()}}
        spell = Spelling(names)
        for step in steps:
            timed = not isinstance(step, (LoopStep, BranchStep))
            if timed:
                out.append(f"{indent}GS_BEGIN")
            if isinstance(step, NestStep):
                self._call(step, indent, spell)
            elif isinstance(step, KernelStep):
                out.append(f"{indent}{step.name}(f);")
            elif isinstance(step, LoopStep):
                self._loop(step, indent, spell)
            else:
                out.append(f"{indent}if (*f->{step.condition.name}) {{")
                self._steps(step.then, indent + "  ")
                out.append(f"{indent}}} else {{")
                self._steps(step.other, indent + "  ")
                out.append(f"{indent}}}")
            if timed:
                out.append(f"{indent}GS_END({self.number_of[step]})")

    def _call(self, step: NestStep, indent: str, spell: Spelling) -> None:
        out, nest = self.lines, step.nest
        loops: list[For] = []
        body = nest.body
        for _ in range(nest.parallel):
            loops.append(body[0])  # type: ignore[arg-type]
            body = body[0].body  # type: ignore[union-attr]
        all_loops = list(loops)
        while len(body) == 1 and isinstance(body[0], For) and not body[0].folds:
            all_loops.append(body[0])
            body = body[0].body
        from gesher.symbolic import product

        tasks = product(s.extent for s in loops)
        work = product(s.extent for s in all_loops) * nest.cost
        # What is computed for an outer index must not be, where there is nothing inside: its operands may be empty.
        guard = [spell(s.extent) for s in all_loops if not isinstance(s.extent, int)]
        prefix = indent
        if guard:
            out.append(f"{indent}if ({' && '.join(f'{g} > 0' for g in guard)})")
            prefix += "  "
        if not loops:
            out.append(f"{prefix}{nest.name}(f, 0, 1, 0);")
        elif isinstance(work, int):
            pool = "call->pool" if work >= ALONE else "NULL"
            if pool == "NULL":
                out.append(f"{prefix}{nest.name}(f, 0, {bare(spell(tasks))}, 0);")
            else:
                out.append(f"{prefix}gs_parallel_for(call->pool, {bare(spell(tasks))}, {nest.name}, f);")
        else:
            out.append(f"{prefix}gs_parallel_for({spell(work)} >= {ALONE} ? call->pool : NULL, {bare(spell(tasks))}, "
                       f"{nest.name}, f);")
        if any(isinstance(s, Fail) for s in walk(nest.body)):
            out.append(f"{indent}if (f->failed) return gs_fail(call, 1, f->failed);")

    def _loop(self, step: LoopStep, indent: str, spell: Spelling) -> None:
        out = self.lines
        turn = f"f->{self.counters[step.symbol]}"
        for now, first, _, _ in step.carried:
            out.append(f"{indent}f->{now.name} = ({c_type(now.dtype)}*)f->{first.name};")
        goes_on = "" if step.going is None else f" && *f->{step.going.name}"
        out.append(f"{indent}for ({turn} = 0; {turn} < {bare(spell(step.count))}{goes_on}; {turn}++) {{")
        inner = indent + "  "
        for _, _, then, (even, odd) in step.carried:
            out.append(f"{inner}f->{then.name} = {turn} % 2 ? f->{odd.name} : f->{even.name};")
        for row, whole in (*step.slices, *step.stacked):
            out.append(f"{inner}f->{row.name} = ({c_type(row.dtype)}*)f->{whole.name} + {turn} * {spell(row.size)};")
        self._steps(step.body, inner)
        for now, _, then, _ in step.carried:
            out.append(f"{inner}f->{now.name} = f->{then.name};")
        out.append(f"{indent}}}")


def _is_keyed(var: Var, op: str) -> bool:
    """Whether a fold of floats is one of whole numbers that are ordered as they are: what is NaN would keep a loop of
    floats from becoming vector code."""
    return op in ("max", "min") and var.dtype.name in ("float", "double")


def _reduction_pragma(s: For) -> str | None:
    """What tells the C compiler that a loop may run in vectors; None where a fold cannot."""
    clauses = []
    for var, op in s.folds:
        if op in ("sum", "prod"):
            clauses.append(f" reduction({'+' if op == 'sum' else '*'} : {var.name})")
        elif _is_keyed(var, op):
            clauses.append(f" reduction({op} : {var.name}_key)")
        elif op in ("max", "min") and var.dtype.is_integer:
            clauses.append(f" reduction({op} : {var.name})")
        else:
            return None
    return "#pragma omp simd" + "".join(clauses)


def copied_row(s: For) -> tuple[tuple[Buffer, DimLike], tuple[Buffer, DimLike]] | None:
    """Where a loop that only copies neighbours begins to write and to read; None for any other loop."""
    if not s.vector or len(s.body) != 2:
        return None
    read, kept = s.body
    if not (isinstance(read, Let) and isinstance(read.value, Load) and isinstance(kept, Store)) \
            or kept.value != read.var or read.value.buffer is kept.buffer \
            or read.value.dtype is not kept.buffer.dtype:
        return None
    starts = [substitute(d, {s.symbol: 0}) if isinstance(d, Dim) else d for d in (kept.index, read.value.index)]
    if any(d is None or start + s.symbol != d for d, start in zip((kept.index, read.value.index), starts)):
        return None
    return (kept.buffer, starts[0]), (read.value.buffer, starts[1])


def _side_by_side(s: For) -> list[str]:
    """What tells the C compiler how to turn a loop of long chains of arithmetic.

    Several vectors at once, where it would turn one and wait for each step of it; and in short loops a part of a vector
    for what is left over, which it would turn by one element after the other.
    """
    if any(isinstance(inner, (For, If)) for inner in s.body):
        return []
    cost = sum(MAPS[v.op].cost for inner in s.body for v in scalars(inner) if isinstance(v, Apply) and v.op in MAPS)
    # What is left over goes by few elements at a time: short loops would be left over whole.
    extent = s.extent if isinstance(s.extent, int) else 128
    if cost < _LONG:
        return []
    if extent < 64 and extent % 16 > 1 and extent % 16 != 8 and not s.folds:
        return ["#if defined(__clang__) && defined(__AVX512F__)", "#pragma clang loop vectorize_predicate(enable)",
                "#endif"]
    if extent < 96:
        return []
    count = 4 if cost < 4 * _LONG and extent >= 256 else 2
    return ["#ifdef __clang__", f"#pragma clang loop interleave_count({count})", "#endif"]


def _renumbered(text: str) -> str:
    """Anonymous sizes numbered in the order in which they are mentioned, so that equal programs are equal texts."""
    numbers: dict[str, str] = {}
    return re.sub(r"\?\d+", lambda found: numbers.setdefault(found[0], f"?{len(numbers) + 1}"), text)


def _type_text(b: Buffer) -> str:
    return f"{b.dtype.name}({','.join(map(str, b.shape))})"


@dataclass(frozen=True, slots=True)
class Unit:
    """The C of a module: its text, `#include` lines first, and the kernels that it calls."""

    text: str
    kernels: tuple[KernelObject, ...]


def unit(programs: Sequence[Program], title: str) -> Unit:
    """One C file of several programs."""
    writers = [Writer(p, i) for i, p in enumerate(programs)]
    headers = dict.fromkeys(h for w in writers for h in w.headers())
    texts = [f"// ---- segment {w.index}\n\n{w.text()}" for w in writers]
    kernels = tuple(dict.fromkeys(k for w in writers for k in w.kernels()))
    prototypes = dict.fromkeys(p for k in kernels for p in k.prototypes())
    comment = title.replace("\n", " ").replace("\\", "/")
    return Unit(f"// {comment}\n" + "".join(f'#include "{h}"\n' for h in headers) + "\n"
                + "".join(f"{p}\n" for p in prototypes) + "\n" + "\n".join(texts), kernels)


__all__ = ["REDUCTIONS", "Writer", "scalars", "unit"]
