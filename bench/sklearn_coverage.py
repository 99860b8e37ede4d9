"""How much of scikit-learn crosses: every estimator, each of its methods, both float types, three engines.

    ./dev bench sklearn_coverage                    what is not known yet; goes on where it was interrupted
    ./dev bench sklearn_coverage --fresh            all of it again
    ./dev bench sklearn_coverage --only Ridge SVC   some of it
    ./dev bench sklearn_coverage --write            and the table as docs/sklearn.md

Each estimator is fitted on small data at its defaults, and nested ones as in `sklearn_nested.py`. An answer is right
where an engine gives what scikit-learn gives on the export's own trials (the example, mixed columns, rows on
thresholds); what is refused says why; anything else is wrong, and the exit status 1. An engine that has not got an
operator says so and is no fault of the model. Outcomes are kept after each estimator, which has a minute at the most.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from faults import faults
from measuring import versions
from models import store
from sklearn.utils import all_estimators
from sklearn_estimators import data, made
from sklearn_nested import TEXTS, WORDS, nested

import gesher
from gesher.frontends import frontend_for
from gesher.frontends.protocol import Exported, ExportOptions

# What makes an estimator one that answers for new data.
ANSWERS = ("predict", "transform", "score_samples", "kneighbors", "decision_function")
METHODS = (*ANSWERS, "predict_proba", "predict_log_proba", "inverse_transform")
ENGINES = ("reference", "compiled", "onnxruntime")
PAGE = Path(__file__).parents[1] / "docs" / "sklearn.md"
LIMIT = 60


@dataclass(slots=True)
class Outcome:
    """What became of one method of one estimator in one type.

    Attributes:
        status: "right", "refused" or "wrong".
        why: the reason, of what is refused or wrong.
        cannot: the engines that refuse the model, and why.
    """

    name: str
    group: str
    dtype: str
    method: str
    status: str
    why: str = ""
    cannot: dict[str, str] = field(default_factory=dict)


class TooLongError(Exception):
    """An estimator took more than its time."""


def estimators() -> dict[str, Any]:
    """The classes that predict, transform or score new data, by name."""
    return {name: kind for name, kind in all_estimators() if any(hasattr(kind, m) for m in ANSWERS)}


def fitted(name: str, kind: Any, dtype: Any) -> tuple[Any, Any]:
    """The estimator, fitted on its data, and an example."""
    if name in ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer"):
        return kind().fit(TEXTS), TEXTS
    if name in ("LabelBinarizer", "LabelEncoder"):
        return kind().fit(WORDS), WORDS
    if name == "MultiLabelBinarizer":
        pairs = np.stack([WORDS, np.roll(WORDS, 1)], 1)
        return kind().fit(pairs), pairs
    x, y = data(name, dtype)
    estimator = made(name, kind)
    estimator = estimator.fit(x) if y is None else estimator.fit(x, y)
    return estimator, estimator.transform(x) if name == "KernelCenterer" else x


def on_engines(exported: Exported) -> tuple[str, str, dict[str, str]]:
    """The status of an export, why, and which engines cannot run it."""
    cannot = {}
    for engine in ENGINES:
        try:
            for trial, output, d in faults(exported, engine):
                said = d.why or f"differs by {d.max_abs:.2g}"
                return "wrong", f"{engine}: {output} of '{trial.name}': {said}", cannot
        except gesher.UnsupportedError as e:
            cannot[engine] = e.what.splitlines()[0][:200]
    return "right", "", cannot


def outcomes(name: str, group: str, fit: Callable[[Any], tuple[Any, Any]]) -> Iterator[Outcome]:
    """Every method in both types."""
    for dtype in (np.float32, np.float64):
        said = np.dtype(dtype).name
        try:
            estimator, example = fit(dtype)
        except TooLongError:
            raise
        except Exception as e:    # scikit-learn's own refusals, of every kind
            yield Outcome(name, group, said, "fit", "refused",
                          f"takes other data than a matrix of numbers: {str(e).splitlines()[0][:120]}")
            continue
        # All of them in one model; where that is not right, each by itself, to know which.
        methods = [m for m in METHODS if hasattr(estimator, m)]
        whole = _one(estimator, example, Outcome(name, group, said, "", "right"), methods)
        for method in methods:
            o = Outcome(name, group, said, method, "right", cannot=whole.cannot)
            yield o if whole.status == "right" else _one(estimator, example, o, [method])


def _one(estimator: Any, example: Any, o: Outcome, methods: list[str]) -> Outcome:
    try:
        exported = frontend_for(estimator).export(estimator, example, ExportOptions(settings={"methods": methods}))
        o.status, o.why, o.cannot = on_engines(exported)
    except TooLongError:
        raise
    except gesher.UnsupportedError as e:
        o.status, o.why = "refused", e.what
    except Exception as e:    # whatever else it is, it is a fault
        o.status, o.why = "wrong", f"{type(e).__name__}: {getattr(e, 'what', e)}"[:300]
    return o


def cases() -> dict[tuple[str, str], Callable[[Any], tuple[Any, Any]]]:
    """What is tried: (group, name), and how it is fitted."""
    found: dict[tuple[str, str], Callable[[Any], tuple[Any, Any]]] = {
        ("estimators", n): lambda dtype, n=n, k=k: fitted(n, k, dtype) for n, k in estimators().items()}
    return found | {("nested", n): make for n, make in nested().items()}


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise TooLongError


def sweep(chosen: Iterable[tuple[str, str]], limit: int = LIMIT) -> Iterator[list[Outcome]]:
    """The outcomes of each case."""
    warnings.simplefilter("ignore")
    every = cases()
    before = signal.signal(signal.SIGPROF, _interrupt)
    try:
        for group, name in chosen:
            rows: list[Outcome] = []
            # Of the processor's time: others' work on the machine is not its fault.
            signal.setitimer(signal.ITIMER_PROF, limit)
            try:
                rows.extend(outcomes(name, group, every[group, name]))
            except TooLongError:
                rows.append(Outcome(name, group, "both", "all", "wrong", f"takes more than {limit} s"))
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            yield rows
    finally:
        signal.signal(signal.SIGPROF, before)


def statuses(rows: list[Outcome], group: str) -> dict[str, Counter[str]]:
    """By type: how many estimators are right in all methods, refused in some, wrong in some."""
    found: dict[str, Counter[str]] = {}
    for dtype in ("float32", "float64"):
        counts: Counter[str] = Counter()
        for name in dict.fromkeys(o.name for o in rows if o.group == group):
            said = {o.status for o in rows if o.name == name and o.dtype in (dtype, "both")}
            counts["wrong" if "wrong" in said else "right" if said == {"right"} else
                   "partly right" if "right" in said else "refused"] += 1
        found[dtype] = counts
    return found


def page(rows: list[Outcome]) -> str:
    """docs/sklearn.md."""
    parts = ["# scikit-learn, estimator by estimator", "",
             "Written by `./dev bench sklearn_coverage --write`: every class of `sklearn.utils.all_estimators()` that "
             "predicts, transforms or scores, at its defaults on small data, and nested ones, each method exported by "
             "itself and held against scikit-learn on `reference`, `compiled` and ONNX Runtime. Refusals are told "
             "below with their reasons.",
             "", f"{versions('scikit-learn', 'onnxruntime')}.", ""]
    parts += ["| | type | right in all methods | partly right | refused | wrong |", "|---|---|---:|---:|---:|---:|"]
    for group in ("estimators", "nested"):
        for dtype, c in statuses(rows, group).items():
            parts.append(f"| {group} | {dtype} | {c['right']} | {c['partly right']} | {c['refused']} | {c['wrong']} |")
    for group in ("estimators", "nested"):
        parts += ["", f"## {group.capitalize()}", "", "| name | float32 | float64 |", "|---|---|---|"]
        for name in dict.fromkeys(o.name for o in rows if o.group == group):
            mine = [o for o in rows if o.name == name and o.group == group]
            parts.append(f"| {name} | " + " | ".join(_cell(mine, d) for d in ("float32", "float64")) + " |")
    parts += ["", "## Why not", ""]
    told: dict[tuple[str, str], list[str]] = {}
    for o in rows:
        if o.status != "right":
            told.setdefault((o.name, f"{o.status}: {' '.join(o.why.split())}"), []).append(f"{o.method} ({o.dtype})")
    for (name, why), where in told.items():
        methods = ", ".join(dict.fromkeys(w.split(" ")[0] for w in where))
        parts.append(f"- **{name}** {methods}: {why}")
    parts += ["", "## Engines that cannot", "", "These are right elsewhere.", ""]
    lacking: dict[tuple[str, str], list[str]] = {}
    for o in rows:
        for engine, why in o.cannot.items():
            lacking.setdefault((engine, why), []).append(o.name)
    parts += [f"- {engine}: {', '.join(dict.fromkeys(names))}: {why}" for (engine, why), names in lacking.items()]
    return "\n".join(parts).rstrip() + "\n"


def _cell(rows: list[Outcome], dtype: str) -> str:
    mine = [o for o in rows if o.dtype in (dtype, "both")]
    parts = []
    for status in ("right", "refused", "wrong"):
        methods = [o.method for o in mine if o.status == status]
        if methods:
            parts.append(("" if status == "right" else f"{status}: ") + ", ".join(methods))
    return "; ".join(parts)


def kept(path: Path) -> dict[str, list[Outcome]]:
    if not path.exists():
        return {}
    return {k: [Outcome(**o) for o in v] for k, v in json.loads(path.read_text()).items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of estimators or nested cases")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs found")
    parser.add_argument("--write", action="store_true", help="write docs/sklearn.md")
    args = parser.parse_args()
    path = store.folder() / "sklearn_coverage.json"
    found = {} if args.fresh else kept(path)
    every = list(cases())
    chosen = [c for c in every if (args.only is None and "/".join(c) not in found) or (args.only and c[1] in args.only)]
    start = time.perf_counter()
    for i, ((group, name), rows) in enumerate(zip(chosen, sweep(chosen)), 1):
        found[f"{group}/{name}"] = rows
        path.write_text(json.dumps({k: [asdict(o) for o in v] for k, v in found.items()}, indent=1))
        counts = Counter(o.status for o in rows)
        print(f"{i}/{len(chosen)} {time.perf_counter() - start:4.0f} s  {name:40} {dict(counts)}", flush=True)
        for o in rows:
            if o.status != "right":
                print(f"    {o.status} {o.dtype} {o.method}: {o.why}", flush=True)
    rows = [o for c in every for o in found.get("/".join(c), [])]
    for group in ("estimators", "nested"):
        for dtype, counts in statuses(rows, group).items():
            print(f"{group}, {dtype}: {dict(counts)}")
    if args.write:
        PAGE.write_text(page(rows), encoding="utf-8")
    return int(any(o.status == "wrong" for o in rows))


if __name__ == "__main__":
    sys.exit(main())
