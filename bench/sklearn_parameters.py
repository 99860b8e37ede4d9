"""scikit-learn's estimators with arguments by chance, on data of many kinds, held to rows that their export never saw.

    ./dev bench sklearn_parameters                        six draws of each estimator, 100 nested ones
    ./dev bench sklearn_parameters --draws 20 --seed 3    more, and others
    ./dev bench sklearn_parameters --only SVC nested      some of them
    ./dev bench sklearn_parameters --case SVC:4           one, told whole

Arguments are drawn from scikit-learn's own constraints; what scikit-learn itself refuses to fit is left out. An export
is verified as always; then `reference` and `compiled` answer every method for fresh rows, large ones, zeros and gaps.
An outcome is right; refused, with its reason; a mismatch, where verifying found the export to be another function
(loud); wrong, where only the fresh rows did; or an error that is no refusal. All but the first two are faults.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn_coverage import METHODS, TooLongError, _interrupt, estimators
from sklearn_drawn import LABEL_TAKERS, OTHERS, TEXT_TAKERS, Data, data_for, drawn
from sklearn_drawn_nested import nested_case

import gesher
from gesher.evaluator.difference import difference
from gesher.frontends import frontend_for
from gesher.frontends import verify as hold
from gesher.frontends.protocol import Exported, ExportOptions

ENGINES = ("reference", "compiled")
NESTED = "nested"
FAULTS = ("mismatch", "wrong", "error")
# Seconds of the processor's time for a fit, and for the rest.
_FIT, _REST = 6, 60


@dataclass(slots=True)
class Outcome:
    """What became of one draw.

    Attributes:
        case: "name:number", by which it can be drawn again.
        status: "right", "refused", "left out" or one of `FAULTS`.
    """

    case: str
    told: str
    data: str
    status: str
    why: str = ""


def draw(name: str, number: int, seed: int) -> tuple[Any, Data]:
    """The estimator, not fitted, and its data: the same for the same arguments."""
    rng = np.random.default_rng([zlib.crc32(name.encode()), number, seed])
    if name == NESTED:
        return nested_case(rng)
    estimator = drawn(name, estimators()[name], rng)
    return estimator, data_for(name, estimator, rng)


def outcome(name: str, number: int, seed: int, told: bool = False) -> Outcome:
    """One draw: fitted, exported, and held to fresh rows."""
    case = f"{name}:{number}"
    try:
        estimator, data = draw(name, number, seed)
        said = " ".join(str(estimator).split())
        signal.setitimer(signal.ITIMER_PROF, _FIT)
        estimator.fit(data.x) if data.y is None else estimator.fit(data.x, data.y)
    except Exception as e:    # scikit-learn's own refusals, of every kind
        return Outcome(case, "", "", "left out", f"{type(e).__name__}: {str(e)[:200]}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    signal.setitimer(signal.ITIMER_PROF, _REST)
    try:
        status, why = _held(estimator, data)
    except TooLongError:
        status, why = "error", f"takes more than {_REST} s"
    except Exception as e:    # whatever it is, it is a fault
        if told:
            traceback.print_exc()
        at = traceback.extract_tb(e.__traceback__)[-1]
        status, why = "error", f"{type(e).__name__}: {str(e)[:300]} ({at.filename.split('/')[-1]}:{at.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return Outcome(case, said, data.kind, status, why)


def _held(estimator: Any, data: Data) -> tuple[str, str]:
    methods = [m for m in METHODS if m != "inverse_transform" and hasattr(estimator, m)]
    options = ExportOptions(settings={"methods": methods})
    frontend, refused = frontend_for(estimator), ""
    try:
        made = frontend.export(estimator, data.example, options)
    except gesher.UnsupportedError as e:
        refused = e.what
        if "beyond its translator" in refused:
            return "error", refused
        if "cannot cross" not in refused and "no way" not in refused:
            return "refused", refused
        # One method may have no way where others do: without being asked, an export gives what there is.
        options = ExportOptions()
        try:
            made = frontend.export(estimator, data.example, options)
        except gesher.UnsupportedError:
            return "refused", refused
    try:
        hold(made)
    except gesher.ModelError as e:
        return "mismatch", str(e)[:600]
    tried: dict[str, Exported] = {"its own": made}
    for title, rows in data.fresh.items():
        try:
            tried[title] = frontend.export(estimator, rows, options)
        except gesher.UnsupportedError:
            continue    # scikit-learn does not answer for such rows
    for engine in ENGINES:
        with gesher.session(made.model, engine) as session:
            for title, other in tried.items():
                for trial in other.trials:
                    got = session.run(trial.feeds)
                    for output, answer in trial.answers.items():
                        d = difference(got[output], answer, rtol=trial.rtol.get(output), atol=trial.atol.get(output))
                        if not d.ok:
                            return "wrong", (f"{engine}, {title} rows, {trial.name}, {output}: " + (
                                d.why or f"{d.mismatches} of {d.size} differ, by {d.max_abs:.3g} at the most"))
    return ("refused", refused) if refused else ("right", "")


def names() -> list[str]:
    """The estimators that are drawn: those that take numbers, texts or labels."""
    return [n for n in estimators() if n not in OTHERS or n in TEXT_TAKERS + LABEL_TAKERS] + [NESTED]


def sweep(cases: Iterable[tuple[str, int]], seed: int, told: bool = False) -> Iterator[Outcome]:
    """The outcome of each (name, number)."""
    before = signal.signal(signal.SIGPROF, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, number in cases:
                yield outcome(name, number, seed, told)
    finally:
        signal.signal(signal.SIGPROF, before)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of estimators, or 'nested'")
    parser.add_argument("--case", help="one draw, as name:number")
    parser.add_argument("--draws", type=int, default=6, help="of each estimator")
    parser.add_argument("--nested", type=int, default=100, help="nested ones")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    cases = [(n, i) for n in args.only or names() for i in range(args.nested if n == NESTED else args.draws)]
    if args.case:
        name, _, number = args.case.partition(":")
        cases = [(name, int(number))]
    start, counts, reasons = time.perf_counter(), Counter[str](), Counter[str]()
    for i, o in enumerate(sweep(cases, args.seed, bool(args.case)), 1):
        counts[o.status] += 1
        if o.status == "refused":
            reasons[o.why.splitlines()[0][:160]] += 1
        if o.status in FAULTS or args.case:
            print(f"{o.status.upper()} {o.case} {o.told}\n    {o.data}\n    {o.why}", flush=True)
        if i % 50 == 0:
            print(f"{i}/{len(cases)} {time.perf_counter() - start:.0f} s {dict(counts)}", flush=True)
    print(dict(counts))
    for why, n in reasons.most_common():
        print(f"{n:4} {why}")
    return int(any(counts[f] for f in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
