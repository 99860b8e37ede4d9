"""Which real architectures cross from PyTorch, with fixed and with free dims, and why where they do not.

    python bench/architectures.py [--only NAME ...] [--kind KIND ...] [--engines reference,onnxruntime] [--limit 180]

Each is built small with random weights (`architecture_zoo/`), exported, and held against PyTorch on every engine: at
the example's size, and with free dims at other sizes too. The exit status is 1 where one does not cross.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import sections
import torch
from architecture_zoo import Architecture, Case, architectures

import gesher
from gesher.base.errors import GesherError, UnsupportedError
from gesher.evaluator.difference import difference
from gesher.frontends import ExportOptions, frontend_for, verify


class OutOfTime(BaseException):
    """An architecture took more of the processor than it may; no `Exception`, which PyTorch catches and goes on."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` after so many seconds of the processor; 0 waits for ever."""
    def stop(*_: object) -> None:
        raise OutOfTime(f"more than {seconds:g} s of the processor, and was broken off")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one architecture in one mode.

    Attributes:
        status: "right", "refused" (an error that says why), "wrong" (a difference), "failed" (any other error).
        seconds: of exporting, verification excluded.
    """

    name: str
    mode: str
    status: str
    why: str = ""
    nodes: int = 0
    seconds: float = 0.0


def outcome(row: Architecture, mode: str, engines: Sequence[str], limit: float = 0) -> Outcome:
    """Export one architecture and hold it against PyTorch, in at most `limit` seconds of the processor."""
    try:
        case = row.case()
    except Exception as e:
        return Outcome(row.name, mode, "failed", f"cannot be built here: {type(e).__name__}: {e}")
    if mode == "dynamic" and (row.static_only or not case.dynamic):
        return Outcome(row.name, mode, "static only", row.static_only)
    start = time.process_time()
    try:
        with within(limit):
            return _cross(row, case, mode, engines)
    except OutOfTime as e:
        return Outcome(row.name, mode, "failed", str(e), seconds=time.process_time() - start)
    except UnsupportedError as e:
        return Outcome(row.name, mode, "refused", str(e), seconds=time.process_time() - start)
    except GesherError as e:
        return Outcome(row.name, mode, "wrong", str(e), seconds=time.process_time() - start)
    except Exception:
        return Outcome(row.name, mode, "failed", traceback.format_exc(limit=-4), seconds=time.process_time() - start)


def _cross(row: Architecture, case: Case, mode: str, engines: Sequence[str]) -> Outcome:
    options = ExportOptions(dynamic=case.dynamic, **case.settings) if mode == "dynamic" else \
        ExportOptions(**{k: v for k, v in case.settings.items() if k != "settings"})    # which are about free dims
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = frontend_for(case.module).export(case.module, case.example, options)
    took = time.process_time() - start
    nodes = len(made.model.graph)
    if "reference" in engines:
        verify(made)
    if mode == "dynamic" and not any(1 in t.sizes.values() for t in made.trials):
        return Outcome(row.name, mode, "failed", "no trial of sizes of 1", nodes, took)
    if mode == "dynamic" and len(made.trials) < 3:
        told = "; ".join(str(w.message) for w in caught if "trial" in str(w.message))
        return Outcome(row.name, mode, "failed", f"only {len(made.trials)} sizes were tried: {told}", nodes, took)
    for engine in engines:
        if engine == "reference":
            continue
        with gesher.session(made.model, engine) as session:
            for trial in made.trials:
                got = session.run(trial.feeds)
                for name, answer in trial.answers.items():
                    rtol = case.rtol if case.rtol is not None else trial.rtol.get(name)
                    atol = case.atol if case.atol is not None else trial.atol.get(name)
                    d = difference(got[name], answer, rtol=rtol, atol=atol, engine=engine, output=name)
                    if not d.ok:
                        return Outcome(row.name, mode, "wrong", f"{engine}, trial '{trial.name}': {d}", nodes, took)
    return Outcome(row.name, mode, "right", "", nodes, took)


def _section(outcomes: Sequence[Outcome]) -> str:
    """The table for `RESULTS.md`: counts by kind, then every architecture that does not cross, with its cause."""
    kinds = {name: row.kind for name, row in architectures().items()}
    modes = ("static", "dynamic")
    lines = ["## Architectures from PyTorch", "",
             f"`./dev bench architectures --write`: PyTorch {torch.__version__.split('+')[0]}, small sizes, random "
             "weights; held against PyTorch on `reference` and ONNX Runtime, with free dims at three sizes or more.",
             "", "| kind | static right | dynamic right | wrong |", "|---|---:|---:|---:|"]
    for kind in dict.fromkeys(kinds.values()):
        of = {m: [o for o in outcomes if kinds.get(o.name) == kind and o.mode == m and o.status != "static only"]
              for m in modes}
        if any(of.values()):
            counts = " | ".join(f"{sum(o.status == 'right' for o in of[m])} of {len(of[m])}" for m in modes)
            lines.append(f"| {kind} | {counts} | {sum(o.status == 'wrong' for m in modes for o in of[m])} |")
    lines += ["", "What does not cross:", "", "| architecture | mode | outcome | cause |", "|---|---|---|---|"]
    for o in outcomes:
        if o.status != "right" and o.name in kinds:
            told = " ".join(o.why.split()) or "it has no free dims in the zoo"
            lines.append(f"| {o.name} | {o.mode} | {o.status} | " + told[:300].replace("|", "\\|") + " |")
    crossed = [kinds[o.name] for o in outcomes if o.status == "right" and o.name in kinds]
    if crossed:
        names = {k: sorted({o.name.removeprefix(f"{k} ") for o in outcomes if kinds.get(o.name) == k
                            and o.status == "right"}) for k in dict.fromkeys(crossed)}
        lines += ["", "What crosses:", "", *(f"- {k}: {', '.join(v)}" for k, v in names.items())]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of architectures")
    parser.add_argument("--kind", nargs="*", default=[], help="kinds of architectures")
    parser.add_argument("--mode", choices=("static", "dynamic"), help="one mode only")
    parser.add_argument("--engines", default="reference,onnxruntime")
    parser.add_argument("--limit", type=float, default=180, help="seconds of the processor for each; 0: none")
    parser.add_argument("--verbose", action="store_true", help="the whole of each cause")
    parser.add_argument("--json", type=Path, help="a file for the outcomes; those of earlier runs in it stay")
    parser.add_argument("--write", action="store_true", help="write all outcomes into RESULTS.md")
    given = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = [r for r in architectures().values() if (not given.only or r.name in given.only)
            and (not given.kind or r.kind in given.kind)]
    print(f"PyTorch {torch.__version__}; seconds of the processor for the export without verification\n")
    print(f"{'architecture':26} {'static':12} {'dynamic':12} {'nodes':>11} {'seconds':>13}")
    outcomes: list[Outcome] = []
    for row in rows:
        pair = [outcome(row, m, given.engines.split(","), given.limit) for m in ("static", "dynamic")
                if given.mode in (None, m)]
        outcomes += pair
        if given.json:    # at once: a run may be broken off
            sections.kept(given.json, map(asdict, pair))
        print(f"{row.name:26} " + " ".join(f"{o.status:12}" for o in pair) + " "
              + "/".join(str(o.nodes) for o in pair).rjust(11) + " " + "/".join(f"{o.seconds:.1f}" for o in pair
                                                                               ).rjust(13), flush=True)
        for o in pair:
            if o.why:
                told = o.why if given.verbose else " ".join(o.why.split())[:300]
                print(f"    {o.mode}: {told}", flush=True)
    for mode in ("static", "dynamic"):
        of = [o for o in outcomes if o.mode == mode and o.status != "static only"]
        if of:
            print(f"{mode}: {sum(o.status == 'right' for o in of)} of {len(of)} right, "
                  f"{sum(o.status == 'wrong' for o in of)} wrong")
    rows_now = sections.kept(given.json, map(asdict, outcomes))
    if given.write:
        sections.put("architectures", _section([Outcome(**r) for r in rows_now]))
    return int(any(o.status not in ("right", "static only") for o in outcomes))


if __name__ == "__main__":
    sys.exit(main())
