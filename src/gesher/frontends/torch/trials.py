"""Trials: what the module itself answers, at the example's sizes and at others, and where an export first differs.

Sizes are drawn so that a program that took one side of a branch is found out: at the example's, at the least that the
ranges allow (a batch of one), at larger ones that keep to what the program takes for granted, and at ones that do not,
for each such precondition. There the module may refuse; where it answers, the model must answer the same.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gesher.evaluator import Evaluator
from gesher.evaluator.difference import difference
from gesher.frontends.protocol import Trial
from gesher.ir import Model, Value

from .arguments import result_names
from .capture import Captured, evaluating
from .dims import resized
from .preconditions import Precondition
from .weights import as_array

# A trial of larger sizes is not to cost more than so many times the example.
_DEAREST = 64
# Weights up to this many bytes are copied in float64, to learn how exact float32 is here.
_DOUBLED_BYTES = 1 << 28

States = Sequence[tuple[str, str, str]]
"""What the module changes: names of the input and of the output, and the buffer (or "" where it is an argument)."""


def trials(captured: Captured, inputs: Sequence[str], outputs: Sequence[tuple[str, str]], states: States
           ) -> list[Trial]:
    """The example and, where dims are free, other sizes, with the module's own answers.

    `outputs` are those that the model kept: the name that capturing gave, and the model's.
    """
    if captured.module is None and not captured.args and not captured.kwargs:
        return []
    asker = _Asker(captured, inputs, outputs, states)
    example = dict(captured.asked.example)
    made = [asker.trial("example", example)]
    if captured.asked.sizes and captured.module is not None:
        made += _other_sizes(asker, captured, example)
    return _with_tolerances(asker, made)


def _other_sizes(asker: _Asker, captured: Captured, example: dict[str, int]) -> list[Trial]:
    conditions, ranges = captured.conditions, captured.asked.ranges
    made: list[Trial] = []
    tried = [example]

    def attempt(title: str, sizes: dict[str, int]) -> bool:
        if sizes in tried:
            return False
        tried.append(sizes)
        try:
            made.append(asker.trial(title, sizes, broken=[c for c in conditions if c.holds(sizes) is False]))
        except Exception as e:
            asker.refusals.append((sizes, e))
            return False
        return True

    least = {n: low for n, (low, _) in ranges.items()}
    if not attempt("least sizes", least):
        for name in least:
            if example[name] != least[name]:
                attempt(f"{name} {least[name]}", {**example, name: least[name]})
    grown = next((s for s in _grown(example, ranges) if all(c.holds(s) is not False for c in conditions)), None)
    if grown is None or not attempt("larger sizes", grown):
        for sizes in list(_grown(example, ranges))[:6]:
            if attempt("larger sizes", sizes):
                break
    for c in conditions:
        if all(c.holds(s) is not False for s in tried):
            against = next((s for s in _breaking(c, example, ranges) if _affordable(s, example)), None)
            if against is not None:
                attempt(f"against {c.text}", against)
    if not made:
        told = "; ".join(f"{s}: {type(e).__name__}: {_first_line(e)}" for s, e in asker.refusals[:3])
        warnings.warn(f"trials of other sizes are left out, because the module does not take them ({told})",
                      stacklevel=2)
    return made


def _first_line(e: Exception) -> str:
    return (str(e).splitlines() or [""])[0][:120]


def _grown(example: Mapping[str, int], ranges: Mapping[str, tuple[int, int | None]]) -> Iterator[dict[str, int]]:
    """Larger sizes, odd ones first; then multiples, for modules that cut their input into patches."""
    def within(name: str, n: int) -> int:
        low, high = ranges[name]
        return max(low, n if high is None else min(n, high))

    for step in (3, 1, 2, 4):
        yield {name: within(name, n + step + i) for i, (name, n) in enumerate(example.items())}
    yield {name: within(name, n + 1) for name, n in example.items()}
    for factor in (2, 3):
        yield {name: within(name, n * factor) for name, n in example.items()}
    for other in example:
        for factor in (2, 3):
            yield {name: within(name, n * factor if name == other else n) for name, n in example.items()}
        yield {name: within(name, n + 1 if name == other else n) for name, n in example.items()}
    yield {name: within(name, n - 1) for name, n in example.items()}


def _breaking(c: Precondition, example: Mapping[str, int], ranges: Mapping[str, tuple[int, int | None]]
              ) -> Iterator[dict[str, int]]:
    """Sizes within the ranges for which a condition does not hold."""
    for name, n in example.items():
        low, high = ranges[name]
        for m in (n + 1, n - 1, n + 2, *range(low, min(n, 9)), 2 * n, 2 * n + 1, n // 2, 3 * n, 4 * n + 3,
                  *((c.most[1] + 1,) if c.most is not None and c.most[0] == name else ())):
            if m >= low and (high is None or m <= high) and c.holds({**example, name: m}) is False:
                yield {**example, name: m}


def _affordable(sizes: Mapping[str, int], example: Mapping[str, int]) -> bool:
    cost = 1.0
    for name, n in sizes.items():
        cost *= (n / max(example[name], 1)) ** 2
    return cost <= _DEAREST


class _Asker:
    """Asks the module, always with copies of what it may change."""

    def __init__(self, captured: Captured, inputs: Sequence[str], outputs: Sequence[tuple[str, str]], states: States):
        self.captured, self.inputs, self.outputs, self.states = captured, inputs, outputs, states
        self.refusals: list[tuple[dict[str, int], Exception]] = []

    def trial(self, title: str, sizes: dict[str, int], broken: Sequence[Precondition] = ()) -> Trial:
        leaves = self.captured.leaves()
        example = sizes == self.captured.asked.example
        tensors = [x for _, x in leaves] if example else resized(leaves, self.captured.asked, sizes)
        feeds = {name: as_array(x.clone()) for name, x in zip(self.inputs, tensors)}
        answers = self.answers(self.captured.module, tensors, feeds, whole=example)
        return Trial(title, feeds, {n: as_array(x) for n, x in answers.items()}, sizes=sizes,
                     broken=tuple(c.assumption for c in broken))

    def answers(self, module: Any, tensors: Sequence[Any], feeds: dict[str, Any] | None, whole: bool = False
                ) -> dict[str, Any]:
        """What the module gives, by the names of the model's outputs; what it changes is put back, and told too."""
        given = [x.detach().clone() for x in tensors]
        if module is None:
            args, kwargs = self.captured.called_with(given)
            module = self.captured.program.module()
        elif whole and module is self.captured.module and not any(not kept for _, _, kept in self.states):
            # The very objects of the example, so that nothing hangs on how they are built anew.
            args, kwargs = copy.deepcopy((self.captured.args, self.captured.kwargs))
        else:
            args, kwargs = self.captured.called_with(given)
        buffers = dict(module.named_buffers()) if self.states else {}
        before = {kept: buffers[kept].clone() for _, _, kept in self.states if kept}
        if feeds is not None:
            feeds.update({name: as_array(before[kept]) for name, _, kept in self.states if kept})
        mode = nullcontext() if self.captured.module is None else evaluating(module)
        with torch.no_grad(), plain_attention(), mode:
            result = module(*args, **kwargs)
        given_out = dict(result_names(result, numbers=True))
        named = {name: found for n, name in zip(self.captured.results, self.captured.outputs)
                 if (found := _given(given_out, n)) is not None}
        found = {new: named[old] for old, new in self.outputs if old in named}
        for name, out, kept in self.states:
            found[out] = (buffers[kept] if kept else given[list(self.inputs).index(name)]).detach().clone()
            if kept:
                with torch.no_grad():
                    buffers[kept].copy_(before[kept])
        return found


def _given(given: Mapping[str, Any], name: str) -> Any:
    """A result by its name; a list of rows, which the program gives as one tensor, put together (`rows`)."""
    if name in given:
        return given[name]
    rows = [x for n, x in given.items() if n.startswith(name) and n[len(name):][:1] in ("_", ".")
            and n[len(name) + 1:].isdigit()]
    return torch.stack(rows) if rows else None


@contextmanager
def plain_attention() -> Iterator[None]:
    """Without PyTorch's fast path for encoders, which torch.export does not capture.

    It leaves zeros in padded places, where the plain path computes numbers that nobody shall read.
    """
    was = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was)


# Tolerances

def _with_tolerances(asker: _Asker, made: list[Trial]) -> list[Trial]:
    """Allowed differences, from how far PyTorch's own float32 lies from its float64."""
    own = _own_error(asker, made[0])
    if not own:
        return made
    found: list[Trial] = []
    for trial in made:
        atol, rtol = {}, {}
        for name, error in own.items():
            answer = trial.answers[name]
            finite = np.abs(answer[np.isfinite(answer)])
            scale = float(finite.max()) if finite.size else 0.0
            # Sums of other orders differ as much as float32 from float64 does; larger sizes have longer sums.
            atol[name], rtol[name] = max(32 * error, 3e-5 * scale, 1e-6), 1e-4
        found.append(replace(trial, atol=atol, rtol=rtol))
    return found


def _own_error(asker: _Asker, example: Trial) -> dict[str, float]:
    """The largest |float32 - float64| of each float32 output of the example; {} where the module has no float64."""
    module = asker.captured.module
    tensors = [x for _, x in asker.captured.leaves()]
    if module is None or asker.states or not any(v.dtype == np.float32 for v in example.answers.values()) \
            or sum(p.nbytes for p in module.parameters()) > _DOUBLED_BYTES:
        return {}
    try:
        double = copy.deepcopy(module).double()
        exact = asker.answers(double, [x.double() if x.dtype is torch.float32 else x for x in tensors], None)
    except Exception:    # a module that names its types has no float64, and is held to the usual tolerance
        return {}
    errors: dict[str, float] = {}
    for name, answer in example.answers.items():
        if answer.dtype == np.float32 and name in exact:
            wide = as_array(exact[name]).astype(np.float64)
            if wide.shape == answer.shape and wide.size:
                gap = np.abs(wide - answer.astype(np.float64))
                gap = gap[np.isfinite(gap)]
                errors[name] = float(gap.max()) if gap.size else 0.0
    return errors


# Where an export first differs

@dataclass(frozen=True, slots=True)
class Located:
    """What became of one node of the program."""

    node: Any
    made: Any
    module: str
    operator: str
    line: str

    def __str__(self) -> str:
        return " › ".join(p for p in (self.module, self.operator, self.line) if p)


def locate(captured: Captured, located: Sequence[Located], model: Model, trial: Trial) -> str:
    """The first operator, in the program's order, whose result differs between PyTorch and the model."""
    # What has been taken out as needless since cannot be asked for any more.
    placed = [(x, x.made) for x in located if isinstance(x.made, Value)
              and x.made.producer is not None and x.made.producer.graph is model.graph]
    recorder = _Recorder(captured.program.graph_module, {x.node for x, _ in placed})
    recorder.run(*_everything(captured, trial))
    evaluator = Evaluator(model)
    for i in range(0, len(placed), 64):
        chunk = placed[i:i + 64]
        got = evaluator.values(trial.feeds, [v for _, v in chunk])
        for (where, _), value in zip(chunk, got):
            want = recorder.seen.get(where.node)
            if isinstance(want, torch.Tensor) and not difference(np.asarray(value), as_array(want)).ok:
                return f"the first operator that differs is {where}"
    return "no operator differs: what PyTorch captured is another function than the module at these sizes"


class _Recorder(torch.fx.Interpreter):
    """Runs the captured program, and keeps what the wanted nodes give."""

    def __init__(self, graph: Any, wanted: set[Any]):
        super().__init__(graph, garbage_collect_values=True)
        self.wanted, self.seen = wanted, {}    # type: ignore[var-annotated]

    def run_node(self, n: Any) -> Any:
        made = super().run_node(n)
        if n in self.wanted:
            self.seen[n] = made.clone() if isinstance(made, torch.Tensor) else made
        return made


def _everything(captured: Captured, trial: Trial) -> list[Any]:
    """What the program is called with, weights included."""
    program, feeds = captured.program, list(trial.feeds.values())
    users = iter(feeds)
    made: list[Any] = []
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    for spec in program.graph_signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            fake = values[spec.arg.name]
            made.append(torch.as_tensor(next(users)) if isinstance(fake, torch.Tensor) else fake)
        else:
            tensor = program.state_dict.get(spec.target)
            made.append(program.constants[spec.target] if tensor is None else tensor)
    return made
