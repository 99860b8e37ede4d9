"""How quick is each operator by itself, compiled, against ONNX Runtime on one thread?

    taskset -c 0 python bench/operators.py [--only PATTERN ...] [--worse RATIO] [--seconds S] [--write]

A model of one node for each row of `single.ROWS`, run in turns in one process: processor time of a whole call, the
least of many short slices, so that what else the machine does hardly counts. Worst ratio first. A call of either
engine costs some microseconds; rows are large enough to stand above that, and its share is not taken out.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from single import ROWS, Row

import gesher
from gesher.evaluator.difference import difference
from gesher.ir.files import from_bytes, to_bytes

# Seconds of a slice: enough that taking turns does not count.
_SLICE = 0.004


@dataclass(frozen=True)
class Result:
    """Processor seconds of a call of each engine, and whether they agree."""

    row: Row
    ours: float
    theirs: float
    agrees: bool

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    def text(self) -> str:
        warning = "" if self.agrees else "   the answers differ"
        return f"{self.row.label:46} {self.ours * 1e6:10.1f} {self.theirs * 1e6:10.1f} {self.ratio:7.2f}{warning}"


def rival(model: bytes) -> Callable[[Mapping[str, Any]], list[Any]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda feeds: session.run(None, feeds)


def measured(row: Row, seconds: float) -> Result:
    """Time one row; raises what either engine raises."""
    model, feeds = row.model(), row.feeds()
    raw = to_bytes(model)
    theirs = rival(raw)
    with gesher.session(from_bytes(raw), "compiled", threads=1) as session:
        runs: dict[str, Callable[[], Any]] = {"ours": lambda: session.run(feeds), "theirs": lambda: theirs(feeds)}
        got, want = session.run(feeds).values(), theirs(feeds)
        # Sums in another order; an operator that rounds to counts may be a step off.
        agrees = all(difference(a, b, rtol=1e-3, atol=2e-3 if np.asarray(b).dtype.kind == "f" else 1.0).ok
                     for a, b in zip(got, want))
        best = dict.fromkeys(runs, math.inf)
        counts = dict.fromkeys(runs, 1)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for name, run in runs.items():
                start = time.process_time()
                for _ in range(counts[name]):
                    run()
                took = time.process_time() - start
                best[name] = min(best[name], took / counts[name])
                counts[name] = max(1, int(_SLICE / max(best[name], 1e-7)))
    return Result(row, best["ours"], best["theirs"], agrees)


# What stands between these in the results is this table.
_BEGIN, _END = "<!-- bench/operators.py writes this -->", "<!-- end of what bench/operators.py writes -->"


def write(results: list[Result], failed: list[str], path: Path) -> None:
    """Put the table into its section of the results, in the place of the one that stands there."""
    mean = math.exp(sum(math.log(r.ratio) for r in results) / len(results))
    lines = ["## The operators, each by itself", "",
             f"`taskset -c 0 python bench/operators.py --write`: Python {platform.python_version()}, "
             f"ONNX Runtime {ort.__version__}, one thread, µs of the processor a call, the least of many runs on a "
             "shared machine.", "",
             f"{len(results)} rows, geometric mean of the ratio {mean:.3f}; {sum(r.ratio > 1 for r in results)} lost, "
             f"{sum(r.ratio > 1.3 for r in results)} of them above 1.3.", "",
             "| operator | compiled | ONNX Runtime | ratio |", "|---|---|---|---|"]
    lines += [f"| {r.row.label}{'' if r.agrees else ' (the answers differ)'} | {r.ours * 1e6:.1f} | "
              f"{r.theirs * 1e6:.1f} | {r.ratio:.2f} |" for r in sorted(results, key=lambda r: -r.ratio)]
    lines += ["", *(f"Not run: {line}." for line in failed), *([""] if failed else [])]
    before, _, rest = path.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2].lstrip("\n")
    body = "\n".join((_BEGIN, *lines)).rstrip("\n")
    path.write_text(f"{before.rstrip()}\n\n{body}\n{_END}\n{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[], help="labels, or patterns of them")
    parser.add_argument("--worse", type=float, default=0.0, help="tell only what is slower than this ratio")
    parser.add_argument("--seconds", type=float, default=0.25, help="of each row")
    parser.add_argument("--write", action="store_true", help="write the table into RESULTS.md")
    told = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = [r for r in ROWS if not told.only or any(fnmatch(r.label.lower(), p.lower()) for p in told.only)]
    results, failed = [], []
    for i, row in enumerate(rows):
        print(f"\r{i + 1}/{len(rows)} {row.label:60}", end="", file=sys.stderr, flush=True)
        try:
            results.append(measured(row, told.seconds))
        except Exception as e:
            failed.append(f"{row.label}: {type(e).__name__}: {' '.join(str(e).split())[:160]}")
    print(file=sys.stderr)
    print(f"gesher {gesher.__version__} compiled, ONNX Runtime {ort.__version__}; one thread, µs of the processor")
    print(f"{'operator':46} {'compiled':>10} {'ort':>10} {'ratio':>7}")
    for r in sorted(results, key=lambda r: -r.ratio):
        if r.ratio >= told.worse or not r.agrees:
            print(r.text())
    if results:
        mean = math.exp(sum(math.log(r.ratio) for r in results) / len(results))
        print(f"{len(results)} rows, geometric mean {mean:.3f}, {sum(r.ratio > 1.3 for r in results)} above 1.3")
    for line in failed:
        print("not run:", line)
    if told.write:
        write(results, failed, Path(__file__).with_name("RESULTS.md"))


if __name__ == "__main__":
    main()
