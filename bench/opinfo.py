"""How many of PyTorch's operators cross: its own OpInfo samples, exported and held against eager PyTorch.

    python bench/opinfo.py [--only NAME ...] [--samples N] [--dtype NAME] [--opset N] [--verbose] [--json FILE]

Each sample is a module whose inputs are the sample's tensors and whose constants are its other arguments. The export
runs on `reference` and on ONNX Runtime. What comes of it:

- right: both answer what eager PyTorch answers (random operators: in type, shape and range);
- refused: the exporter says why it cannot cross; refused by torch.export itself counts as that too, and is told apart;
- engine: the model is right on `reference`, but ONNX Runtime does not take it, or drops NaN (as its ReduceMax does);
- wrong: an answer differs, in silence; crashed: an error that is not a refusal, or a process that died or hung.

By default the first telling sample of each entry is taken (it has a tensor, and its answer holds more than one value
that is not the same), or the first N with `--samples N`, spread over all there are. The work is done in forked
processes of a few dozen entries each, so memory stays bounded and a crash costs one sample. The exit status is 1 where
something is wrong or crashed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

import gesher
import gesher.frontends.torch.translate  # here, so that forked children have it
from gesher.engines import engine
from gesher.engines.protocol import Options
from gesher.evaluator import Evaluator
from gesher.evaluator.difference import difference
from gesher.frontends import frontend_for
from gesher.frontends.protocol import Exported, ExportOptions

BATCH = 40
NARROW = (torch.float16, torch.bfloat16)
# PyTorch's own answers in float64 are good to float32 only (scipy agrees with ours to 4e-16).
COARSE = ("special.bessel_j0", "special.bessel_j1", "special.bessel_y0", "special.bessel_y1")
LIMIT = 60
"""Seconds of the processor that one sample may take before its process is given up."""

# Their answers are drawn anew each time.
RANDOM = re.compile(r"^(bernoulli|normal|rand|randn|rand_like|randn_like|randint|randint_like|multinomial|uniform|"
                    r"cauchy|exponential|geometric|log_normal|nn\.functional\.(alpha_|feature_alpha_|)dropout[23]?d?|"
                    r"nn\.functional\.feature_.*dropout|nn\.functional\.rrelu|"
                    r"nn\.functional\.fractional_max_pool[23]d|empty.*|new_empty.*|"
                    r"svd_lowrank|pca_lowrank)(\..*)?$")
# Drawn with a fixed answer where a sample's own numbers say so (p = 0, training off): these are held to values.
WHOLE_ONLY = re.compile(r"dropout|rrelu")


# Vectors are fixed only up to their signs, or a rotation: these are held to what makes them what they are.
BASES = re.compile(r"^(svd|linalg\.svd|linalg\.eigh)$")


# Which of equal elements is told first is left open, unless a sample asks for a stable order: places count as right
# that tell the same elements, each once.
PLACES = re.compile(r"^(topk|kthvalue|sort|argsort)$")


@dataclass(frozen=True)
class Outcome:
    """What became of one sample."""

    name: str
    sample: int
    status: str
    why: str = ""
    seconds: float = 0.0


class Sampled(torch.nn.Module):
    """An operator on a sample: its tensors are inputs, all else is constant."""

    def __init__(self, op: Any, sample: Any):
        super().__init__()
        self.op = op
        self.stable = bool(sample.kwargs.get("stable"))
        leaves, self.spec = pytree.tree_flatten((sample.input, tuple(sample.args), dict(sample.kwargs)))
        self.places = [i for i, x in enumerate(leaves) if isinstance(x, torch.Tensor)]
        self.tensors = tuple(leaves[i].detach() for i in self.places)
        self.leaves = [None if isinstance(x, torch.Tensor) else x for x in leaves]

    def forward(self, *tensors: torch.Tensor) -> Any:
        leaves = list(self.leaves)
        for i, x in zip(self.places, tensors):
            leaves[i] = x
        first, args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.op(first, *args, **kwargs)


def entries(only: list[str] | None = None, dtype: torch.dtype = torch.float32) -> list[Any]:
    """The entries of the database that have samples of a type, by full name."""
    from torch.testing._internal.common_methods_invocations import op_db

    found = [op for op in op_db if dtype in op.supported_dtypes("cpu")]
    return [op for op in found if not only or full_name(op) in only or op.name in only]


def full_name(op: Any) -> str:
    return f"{op.name}.{op.variant_test_name}" if op.variant_test_name else str(op.name)


def samples(op: Any, count: int | None, dtype: torch.dtype = torch.float32
            ) -> Iterator[tuple[int, Sampled, list[torch.Tensor]]]:
    """Samples with their answers: the first telling one (count None), or `count` spread over all."""
    torch.manual_seed(0)
    np.random.seed(0)
    made = list(op.sample_inputs("cpu", dtype, requires_grad=False))
    chosen = range(len(made)) if count is None or count >= len(made) else \
        [i * len(made) // count for i in range(count)]
    fallback = None
    for i in chosen:
        module = Sampled(op.get_op(), made[i])
        try:
            with torch.no_grad():
                answer = module(*(x.clone() for x in module.tensors))
        except Exception:    # a sample that eager PyTorch refuses is no sample
            continue
        flat = [x for x in pytree.tree_leaves(answer) if isinstance(x, torch.Tensor)]
        if count is not None:
            yield i, module, flat
        elif module.tensors and any(x.numel() > 1 and x.layout == torch.strided and
                                    bool((x != x.reshape(-1)[0]).any()) for x in flat):
            yield i, module, flat
            return
        elif fallback is None:
            fallback = (i, module, flat)
    if count is None and fallback is not None:
        yield fallback


def _plain(x: torch.Tensor) -> np.ndarray[Any, Any]:
    """An answer as the model gives it: complex numbers as pairs."""
    x = x.detach().resolve_conj().resolve_neg()
    x = torch.view_as_real(x) if x.is_complex() else x
    return np.asarray((x.float() if x.dtype is torch.bfloat16 else x).numpy())


def _fed(x: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor as the model takes it."""
    import ml_dtypes

    return _plain(x).astype(ml_dtypes.bfloat16) if x.dtype is torch.bfloat16 else _plain(x)


def _in_float32(module: Sampled, answers: list[torch.Tensor]) -> list[torch.Tensor] | None:
    """What PyTorch answers to the same numbers in float32, rounded: where a narrow type overflows half-way, or its own
    kernel is coarse, a model that does better is right too. None where it takes no float32."""
    try:
        with torch.no_grad():
            given = module(*(x.float() if x.dtype in NARROW else x.clone() for x in module.tensors))
    except Exception:
        return None
    flat = [x for x in pytree.tree_leaves(given) if isinstance(x, torch.Tensor)]
    return [x.to(a.dtype) for x, a in zip(flat, answers)] if len(flat) == len(answers) else None


def _bases_differ(name: str, got: list[Any], want: list[torch.Tensor]) -> str:
    """Whether vectors are orthonormal and make the same matrix with the same values."""
    values = want[0 if name == "linalg.eigh" else 1].numpy()
    k = values.shape[-1]

    def whole(parts: list[Any]) -> Any:
        vectors = parts[1] if name == "linalg.eigh" else parts[0]
        other = {"linalg.eigh": np.swapaxes(vectors, -1, -2), "linalg.svd": parts[-1]}.get(name)
        other = np.swapaxes(parts[2], -1, -2) if other is None else other
        return (vectors[..., :k] * values[..., None, :]) @ other[..., :k, :]

    for v, w in zip(got, want):
        if np.asarray(v).shape != tuple(w.shape):
            return f"shape {np.asarray(v).shape} instead of {tuple(w.shape)}"
        if w.ndim >= 2 and w is not want[0 if name == "linalg.eigh" else 1]:
            square = np.swapaxes(v, -1, -2) @ v if v.shape[-2] >= v.shape[-1] else v @ np.swapaxes(v, -1, -2)
            if v.size and not np.allclose(square, np.eye(square.shape[-1]), atol=1e-4):
                return "the vectors are not orthonormal"
    d = difference(whole(got), whole([w.numpy() for w in want])) if values.size else None
    return "" if d is None or d.ok else f"the parts make another matrix, by {d.max_abs:.3g}"


def _differs(got: Any, want: torch.Tensor, random: bool, coarse: bool = False) -> str:
    got, expected = np.asarray(got), _plain(want)
    if want.dtype is torch.bfloat16 and got.dtype.name == "bfloat16":
        got = got.astype(np.float32)
    if random:
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return f"{got.dtype}{got.shape} instead of {expected.dtype}{expected.shape}"
        return ""
    # Narrow floats are rounded at every step, here at others than there.
    step = {torch.float16: 2.0 ** -8, torch.bfloat16: 2.0 ** -5}.get(want.dtype)
    size = float(np.abs(expected[np.isfinite(expected)]).max(initial=0)) if step else 0.0
    d = difference(got, expected, rtol=1e-6 if coarse else step, atol=1e-6 if coarse else step and step * size)
    return "" if d.ok else d.why or f"{d.mismatches} of {d.size} differ, by {d.max_abs:.3g} at the most"


def _same_elements(x: torch.Tensor, got: Any, want: torch.Tensor) -> bool:
    """Whether two answers of places along some axis tell the same elements of `x`."""
    places = torch.as_tensor(np.asarray(got))
    if places.shape != want.shape or places.dtype != want.dtype:
        return False
    for axis in range(x.ndim):
        a, b = (p.unsqueeze(axis) if p.ndim == x.ndim - 1 else p for p in (places, want))
        if a.ndim != x.ndim or any(i != axis and m != n for i, (m, n) in enumerate(zip(a.shape, x.shape))):
            continue
        each = a.sort(axis)[0]
        there = not a.numel() or (int(a.min()) >= 0 and max(int(a.max()), int(b.max())) < x.shape[axis])
        if there and not bool((each.diff(dim=axis) == 0).any()) and torch.equal(x.gather(axis, a), x.gather(axis, b)):
            return True
    return False


def _refusal(error: Exception) -> str:
    return " ".join(str(getattr(error, "what", error)).split())[:300]


def judge(name: str, i: int, module: Sampled, answers: list[torch.Tensor], options: ExportOptions,
          ort: bool = True) -> Outcome:
    """Export one sample and hold it against its answers."""
    start = time.perf_counter()

    def outcome(status: str, why: str = "") -> Outcome:
        return Outcome(name, i, status, " ".join(why.split())[:400], round(time.perf_counter() - start, 2))

    random = bool(RANDOM.match(name.split(".complex")[0]))
    bases = bool(BASES.match(name))
    coarse = name in COARSE
    wide = _in_float32(module, answers) if any(x.dtype in NARROW for x in module.tensors) else None
    ties = bool(PLACES.match(name)) and not module.stable

    def held(got: Any) -> str:
        if bases:
            return _bases_differ(name, [got[o] for o in outputs], answers)
        return next((f"{o}: {why}" for i, (o, want) in enumerate(zip(outputs, answers))
                     if (why := _differs(got[o], want, random, coarse)) and not (
                         wide is not None and not _differs(got[o], wide[i], random)) and not (
                         ties and want.dtype is torch.int64 and o == outputs[-1] and
                         _same_elements(module.tensors[0], got[o], want))), "")

    try:
        # As eager PyTorch runs it: dropout that is asked for is done.
        exported: Exported = frontend_for(module).export(module, tuple(x.clone() for x in module.tensors), options)
    except gesher.UnsupportedError as e:
        return outcome("refused", _refusal(e))
    except Exception as e:
        return outcome("crashed", f"{type(e).__name__}: {_refusal(e)}")
    model = exported.model
    feeds = {v.name: _fed(x) for v, x in zip(model.graph.inputs, module.tensors)}
    outputs = [v.name for v in model.graph.outputs][:len(answers)]
    if len(outputs) != len(answers):
        return outcome("wrong", f"{len(outputs)} outputs instead of {len(answers)}")
    try:
        got = Evaluator(model).run(feeds)
    except Exception as e:
        return outcome("wrong", f"reference: {type(e).__name__}: {_refusal(e)}")
    if why := held(got):
        return outcome("wrong", f"reference: {why}")
    if not ort:
        return outcome("right")
    try:
        session = engine("onnxruntime").prepare(model, Options(threads=1))
        got = session.run(feeds)
        session.close()
    except Exception as e:
        return outcome("engine", f"{type(e).__name__}: {_refusal(e)}")
    why = held(got)
    if why and any(np.isnan(x).any() for x in feeds.values() if x.dtype.kind == "f"):
        return outcome("engine", f"onnxruntime loses NaN where the reference keeps it: {why}")
    return outcome("wrong", f"onnxruntime: {why}") if why else outcome("right")


def _work(numbers: list[int], args: argparse.Namespace, pipe: Connection) -> None:
    """The child: tells each sample before it begins, its outcome when it is done, and the number of each done entry."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options = ExportOptions(verify=False, opset=args.opset)
    dtype = getattr(torch, args.dtype)
    found = entries(args.only, dtype)
    for number in numbers:
        op, name = found[number], full_name(found[number])
        try:
            for i, module, answers in samples(op, args.samples, dtype):
                pipe.send((name, i))
                # ONNX Runtime's CPU build has no arithmetic of bfloat16.
                pipe.send(judge(name, i, module, answers, options, ort=dtype is not torch.bfloat16))
        except Exception as e:
            pipe.send(Outcome(name, -1, "crashed", f"its samples cannot be made: {_refusal(e)}"))
        pipe.send(number)
    pipe.send(None)


def _busy(pid: int | None) -> float:
    """Seconds of the processor that a process has used; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sweep(args: argparse.Namespace) -> Iterator[Outcome]:
    """Every outcome, in the order of the database."""
    found = entries(args.only, getattr(torch, args.dtype))
    left = list(range(len(found)))
    while left:
        here, there = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_work, args=(left[:BATCH], args, there))
        child.start()
        there.close()
        doing, ended, since = ("", -1), False, 0.0
        try:
            while True:
                # By the processor's clock: a machine that is busy with other things is no hang.
                if not here.poll(5):
                    if not child.is_alive() or _busy(child.pid) - since > LIMIT:
                        break
                    continue
                told, since = here.recv(), _busy(child.pid)
                if told is None:
                    ended = True
                    break
                if isinstance(told, Outcome):
                    yield told
                elif isinstance(told, int):
                    left.remove(told)
                else:
                    doing = told
        except EOFError:
            pass
        if not ended:
            yield Outcome(full_name(found[left[0]]), doing[1], "crashed", "the process died or took too long")
            del left[0]
        child.kill()
        child.join()


def main() -> int:
    parser = argparse.ArgumentParser(description="how many of PyTorch's OpInfo samples cross")
    parser.add_argument("--only", nargs="*", help="names of entries")
    parser.add_argument("--samples", type=int, help="this many of each entry instead of one")
    parser.add_argument("--dtype", default="float32", help="of the samples' tensors: bfloat16, int64, bool ...")
    parser.add_argument("--opset", type=int)
    parser.add_argument("--verbose", action="store_true", help="also print what is right")
    parser.add_argument("--json", help="write all outcomes to this file")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    outcomes: list[Outcome] = []
    for o in sweep(args):
        outcomes.append(o)
        if args.verbose or o.status != "right":
            print(f"{o.status:8} {o.name}[{o.sample}]  {o.why}", flush=True)
    if args.json:
        with open(args.json, "w") as f:
            json.dump([asdict(o) for o in outcomes], f, indent=0)
    statuses = ("right", "refused", "engine", "wrong", "crashed")
    by_entry: dict[str, set[str]] = {}
    for o in outcomes:
        by_entry.setdefault(o.name, set()).add(o.status)
    whole = Counter("right" if s == {"right"} else next(x for x in reversed(statuses) if x in s)
                    for s in by_entry.values())
    count = Counter(o.status for o in outcomes)
    print(f"{len(outcomes)} samples: " + ", ".join(f"{count[s]} {s}" for s in statuses))
    print(f"{len(by_entry)} entries, each by its worst sample: " + ", ".join(f"{whole[s]} {s}" for s in statuses))
    return int(bool(count["wrong"] or count["crashed"]))


if __name__ == "__main__":
    sys.exit(main())
