"""How many of ONNX's 2033 conformance cases does each engine pass, how long does ours take, and how fast is the oracle?

    ./dev bench conformance [--engines reference compiled onnxruntime onnx] [--only counts | speed]

Engines: `reference`, `compiled` (a quarter of an hour: a C compiler runs for each case), and two peers, ONNX Runtime
and onnx's own ReferenceEvaluator. The clock of `reference` runs over all cases, collecting them included, spread over
the cores at hand. Then the nine `light` models, ResNet-50 among them, on the reference rules against
ReferenceEvaluator, turn about in one process, the best of several runs each.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx.reference

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import row, versions
from tests.suites.conformance import GROUPS, Case, Engine, cases, hold, on

from gesher.evaluator import Evaluator

ENGINES = ("reference", "onnxruntime", "onnx")
Outcome = tuple[str, str, str]  # group, name, why it failed ("": it passed)


def _of_onnx(model: Any, seed: int) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    from gesher.ir.files import to_bytes

    runner = onnx.reference.ReferenceEvaluator(onnx.load_from_string(to_bytes(model)))

    def run(feeds: Mapping[str, Any]) -> dict[str, Any]:
        # Its nodes print while they run.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            return dict(zip(runner.output_names, map(_array, runner.run(None, dict(feeds)))))

    return run


def _array(value: Any) -> Any:
    """What the suite compares: arrays, lists of them, strings as objects."""
    if isinstance(value, list):
        return [_array(v) for v in value]
    if value is None or isinstance(value, dict):
        return value
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def engine_of(name: str) -> Engine:
    if name == "onnx":
        return _of_onnx
    return (lambda model, seed: Evaluator(model, seed=seed).run) if name == "reference" else on(name)


def _tried(given: tuple[str, Case]) -> Outcome:
    name, case = given
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hold(case, engine_of(name))
    except Exception as e:    # a peer may fail in any way; each is told
        return case.group, case.name, f"{type(e).__name__}: {str(e).strip()[:90]}".replace("\n", " ")
    return case.group, case.name, ""


def counts(engines: list[str], verbose: bool) -> None:
    cores = len(os.sched_getaffinity(0))
    started = time.perf_counter()
    # The dear ones first, so that no core is left with one at the end.
    found = sorted(cases(), key=lambda c: c.group != "real")
    collecting = time.perf_counter() - started
    whole = Counter(c.group for c in found)
    print(f"{len(found)} cases, collected in {collecting:.1f} s; {cores} cores")
    print(f"{'engine':14}" + "".join(f"{g:>20}" for g in GROUPS) + f"{'all':>12}{'seconds':>10}")
    for name in engines:
        started = time.perf_counter()
        with multiprocessing.get_context("fork").Pool(cores) as pool:
            outcomes = list(pool.imap_unordered(_tried, [(name, c) for c in found], chunksize=1))
        took = time.perf_counter() - started + collecting
        passed = Counter(group for group, _, why in outcomes if not why)
        print(f"{name:14}" + "".join(f"{f'{passed[g]}/{whole[g]}':>20}" for g in GROUPS)
              + f"{f'{passed.total()}/{whole.total()}':>12}{took:10.1f}", flush=True)
        if name == "reference":
            row("all cases on reference", f"{took:.1f} s", "", None, "<= 60 s on two cores", took <= 60)
        for group, case, why in sorted(outcomes):
            if why and (verbose or name in ("reference", "compiled")):
                print(f"  {group}/{case}: {why}")


def speed(repeat: int) -> None:
    """The oracle against ReferenceEvaluator."""
    for case in (c for c in cases() if c.group == "real"):
        ours, theirs = best_of(case, repeat)
        row(f"{case.name[5:]} on the reference rules", f"{ours:.2f} s", f"onnx {theirs:.2f} s", ours / theirs,
            "<= 1.5 of ReferenceEvaluator", ours <= 1.5 * theirs)


def best_of(case: Case, repeat: int) -> tuple[float, float]:
    """Seconds of the best run of both, turn about."""
    feeds = case.data()[0][0]
    ours, theirs = Evaluator(case.opened()), onnx.reference.ReferenceEvaluator(case.proto())

    def timed(run: Callable[[], Any]) -> float:
        started = time.perf_counter()
        run()
        return time.perf_counter() - started

    rounds = [(timed(lambda: ours.run(feeds)), timed(lambda: theirs.run(None, dict(feeds)))) for _ in range(repeat)]
    return min(a for a, _ in rounds), min(b for _, b in rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description="ONNX's conformance suite on engines, and the speed of the oracle")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES))
    parser.add_argument("--only", choices=("counts", "speed"))
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--verbose", action="store_true", help="also what peers fail at")
    args = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, " + versions("onnx", "onnxruntime", "numpy"))
    if args.only != "speed":
        counts(args.engines, args.verbose)
    if args.only != "counts":
        speed(args.repeat)


if __name__ == "__main__":
    main()
