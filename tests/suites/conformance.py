"""ONNX's own conformance suite as cases that any engine can run: bytes of a model, feeds, expected outputs, tolerances.

    for case in cases():
        hold(case, lambda model, feeds: Evaluator(model).run(feeds))

What a reader would guess wrong:

- The suite is data of the `onnx` package, but its node cases exist only as Python that makes them; collecting takes
  eight seconds, once a process. The nine `real` models come without inputs: the suite's own are made by rule.
- An engine meets a case as bytes, through our reader, so that reading is tested with it.
- Where two engines cannot draw the same numbers (`RANDOM`), a case is judged by type, shape and distribution.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper

from gesher.base import dtypes
from gesher.ir import Model
from gesher.ir.files import from_bytes

GROUPS = ("node", "node-expanded", "simple", "pytorch-operator", "pytorch-converted", "real")

# Loads a model and gives a function from feeds to outputs, both by name. The seed is for random operators.
Engine = Callable[[Model, int], Callable[[Mapping[str, Any]], Mapping[str, Any]]]

# Cases whose numbers are drawn anew by each engine; how each is judged stands in `_distributed`.
RANDOM = frozenset(f"test_bernoulli{kind}{form}" for kind in ("", "_double", "_seed") for form in ("", "_expanded"))


@dataclass(frozen=True)
class Case:
    """One case of the suite. Its model and data are read when they are asked for."""

    group: str
    name: str
    rtol: float
    atol: float
    source: Any = field(compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.group}/{self.name}"

    def model_bytes(self) -> bytes:
        """The model as the suite has it."""
        if self.source.model is not None:
            return self.source.model.SerializeToString()
        return self._path.read_bytes()

    def opened(self) -> Model:
        """The model through our reader."""
        return from_bytes(self.model_bytes())

    def proto(self) -> onnx.ModelProto:
        """The model as onnx reads it."""
        return self.source.model if self.source.model is not None else onnx.load(self._path)

    def data(self) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Feeds and expected outputs by name, a pair for each data set."""
        graph = self.proto().graph
        initialized = {t.name for t in graph.initializer}
        inputs = [v for v in graph.input if v.name not in initialized] if self.group == "real" else list(graph.input)
        return [(dict(zip([v.name for v in inputs], map(_fed, given))),
                 dict(zip([v.name for v in graph.output], map(_fed, wanted))))
                for given, wanted in self._arrays(inputs, list(graph.output))]

    def _arrays(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> list[tuple[list[Any], list[Any]]]:
        if self.source.data_sets is not None:
            return [(list(given), list(wanted)) for given, wanted in self.source.data_sets]
        if self.group == "real":
            stem = str(self._path)[:-len(".onnx")]
            return [([_ramp(v) for v in inputs],
                     [_read(Path(f"{stem}_output_{i}.pb"), v) for i, v in enumerate(outputs)])]
        folders = sorted(self._path.parent.glob("test_data_set*"))
        return [([_read(folder / f"input_{i}.pb", v) for i, v in enumerate(inputs)
                  if (folder / f"input_{i}.pb").exists()],
                 [_read(folder / f"output_{i}.pb", v) for i, v in enumerate(outputs)]) for folder in folders]

    @property
    def _path(self) -> Path:
        if self.group == "real":
            return Path(onnx.__file__).parent.parent / self.source.url
        return Path(self.source.model_dir) / "model.onnx"


@cache
def cases() -> tuple[Case, ...]:
    """The whole suite, in an order that does not depend on the machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        found = [(kind, c) for kind in GROUPS if kind != "node-expanded" for c in load_model_tests(kind=kind)]
    made = [Case("node-expanded" if kind == "node" and "_expanded" in c.name else kind, c.name, c.rtol, c.atol, c)
            for kind, c in found]
    return tuple(sorted(made, key=lambda c: (GROUPS.index(c.group), c.name)))


def _ramp(v: onnx.ValueInfoProto) -> np.ndarray:
    """The input that the expected outputs of the `real` models belong to: from 0 to 1 in even steps, f32."""
    shape = [d.dim_value if d.HasField("dim_value") else 1 for d in v.type.tensor_type.shape.dim]
    n = int(np.prod(shape))
    return (np.arange(n).reshape(shape) / n).astype(np.float32)


def _read(path: Path, v: onnx.ValueInfoProto) -> Any:
    """A file of data, which does not say itself of which message it is."""
    kind = v.type.WhichOneof("value")
    message: Any = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(
        kind, onnx.TensorProto)()
    message.ParseFromString(path.read_bytes())
    return message


_READ: dict[type, Callable[[Any], Any]] = {
    onnx.TensorProto: onnx.numpy_helper.to_array, onnx.SequenceProto: onnx.numpy_helper.to_list,
    onnx.OptionalProto: onnx.numpy_helper.to_optional, onnx.MapProto: onnx.numpy_helper.to_dict}


def _fed(value: Any) -> Any:
    """A case's data as engines take and give it."""
    if type(value) in _READ:
        value = _READ[type(value)](value)
    if isinstance(value, (list, tuple)):
        return [_fed(v) for v in value]
    if value is None or isinstance(value, dict):
        return value
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def hold(case: Case, engine: Engine) -> list[Mapping[str, Any]]:
    """Run a case and hold its outputs to the expected ones; gives the outputs, a mapping for each data set.

    Raises:
        AssertionError: an output is missing, of another type or shape, or too far off.
        GesherError: the engine refuses or fails.
    """
    run = engine(case.opened(), 0)
    outputs = []
    for feeds, wanted in case.data():
        got = run(feeds)
        if case.name in RANDOM:
            _distributed(case, feeds, wanted, got, engine)
        else:
            for name, want in wanted.items():
                same(got[name], want, case.rtol, case.atol, name)
        outputs.append(got)
    return outputs


def same(got: Any, want: Any, rtol: float, atol: float, what: str) -> None:
    """Equal types and shapes, and numbers within the tolerance, as the suite's own runner compares them.

    Raises:
        AssertionError: they are not.
    """
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want), f"{what} is {got!r}, not a sequence of {len(want)}"
        for i, (a, b) in enumerate(zip(got, want)):
            same(a, b, rtol, atol, f"{what}[{i}]")
        return
    if want is None or isinstance(want, dict):
        assert got == want, f"{what} is {got!r}, not {want!r}"
        return
    _same_type(got, want, what)
    if want.dtype == object:
        assert got.tolist() == want.tolist(), what
        return
    dtype = dtypes.from_numpy(want.dtype)
    if dtype is dtypes.BFLOAT16:
        rtol = max(rtol, 2**-6)  # two steps of bfloat16, as the suite's own runner allows
    if dtype.is_float and want.dtype.itemsize < 4:
        got, want = got.astype(np.float64), want.astype(np.float64)
    elif dtype.packed:
        got, want = got.astype(np.int64), want.astype(np.int64)
    np.testing.assert_allclose(got, want, rtol, atol, err_msg=what)


def _same_type(got: Any, want: np.ndarray, what: str) -> None:
    assert isinstance(got, np.ndarray), f"{what} is a {type(got).__name__}"
    assert got.dtype == want.dtype, f"{what} is {got.dtype}, not {want.dtype}"
    assert got.shape == want.shape, f"{what} has the shape {got.shape}, not {want.shape}"


def _distributed(case: Case, feeds: Mapping[str, Any], wanted: Mapping[str, Any], got: Mapping[str, Any],
                 engine: Engine) -> None:
    """Bernoulli: each number is 1 with the probability that its input says, else 0."""
    [p], [(name, want)] = feeds.values(), wanted.items()
    if case.group == "node-expanded":
        # The function that onnx says the operator is has it the wrong way round: 1 where a uniform number lies above p.
        p = 1 - p
    _same_type(got[name], want, name)
    draws = [got[name]]
    if "seed" not in case.name:    # else every run draws the same
        draws += [engine(case.opened(), seed)(feeds)[name] for seed in range(1, 16)]
        assert any((d != draws[0]).any() for d in draws), "another seed draws the same numbers"
    for d in draws:
        _same_type(d, want, name)
        assert set(np.unique(d).tolist()) <= {0, 1}, f"{name} has other numbers than 0 and 1"
        assert not d[p <= 0].any() and d[p >= 1].all(), f"{name} draws the impossible"
    # The count of ones is nearly normal; with fixed seeds the outcome is the same in every run.
    off = sum(float((d - p).sum()) for d in draws) / np.sqrt(len(draws) * float((p * (1 - p)).sum()))
    assert abs(off) < 3, f"{name} lies {off:.1f} standard deviations off"


def gaps(path: Path) -> dict[str, str]:
    """A gap file: cases known to fail, `group/name` and the reason, a line each; `#` begins a comment line."""
    lines = [line.split(None, 1) for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1] for line in lines}


def on(engine: str) -> Engine:
    """An engine of the protocol, as `hold` wants it."""
    from gesher.engines import Options, prepare

    return lambda model, seed: prepare(model, engine, Options(threads=1, seed=seed)).run


def main(engines: Sequence[str]) -> None:
    """Run the whole suite on engines, peers too, and print what each passes and what not.

    From the shell: `python -m tests.suites.conformance reference onnxruntime`.
    """
    from collections import Counter

    whole = Counter(c.group for c in cases())
    for engine in engines:
        passed: Counter[str] = Counter()
        for case in cases():
            try:
                hold(case, on(engine))
                passed[case.group] += 1
            except Exception as e:    # a peer may fail in any way; each is told
                print(f"  {engine} {case}: {type(e).__name__}: {str(e).strip()[:100].replace(chr(10), ' ')}")
        print(engine, " ".join(f"{g} {passed[g]}/{whole[g]}" for g in GROUPS), f"all {passed.total()}/{whole.total()}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:] or ["reference"])
