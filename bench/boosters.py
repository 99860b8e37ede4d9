"""Boosted trees and forests: do they cross, do they decide alike, how fast do they answer, what does exporting cost?

    ./dev bench boosters                                    all parts
    ./dev bench boosters --part counts --library lightgbm   one part, one library
    ./dev bench boosters --write                            and the table into bench/RESULTS.md

`counts` holds every configuration of `booster_zoo` against its library on three engines. `rows` compares 100,000 random
rows and 10,000 on thresholds. `latency` races the compiled engine with the library's own `predict`, one thread each,
turn about. `export` races exporting with skl2onnx, onnxmltools and CatBoost's own writer. Rows are kept in the cache
folder of the models, so that a table can be written from several runs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from booster_rows import boundary_rows, held, random_rows
from booster_zoo import Configuration, configurations, forests
from faults import faults
from measuring import versions
from models import store
from racing.goals import geometric_mean
from racing.table import human, markdown

import gesher
from gesher.frontends import frontend_for
from gesher.frontends.protocol import ExportOptions

PARTS = ("counts", "rows", "latency", "export")
LIBRARIES = ("xgboost", "lightgbm", "catboost", "sklearn")
ENGINES = ("reference", "compiled", "onnxruntime")
BEGIN, END = "<!-- boosters: begin -->", "<!-- boosters: end -->"
# What sums of float32, taken in another order, may differ in; CatBoost, LightGBM and scikit-learn sum float64.
TOLERANCE = {"float32": 5e-6, "float64": 1e-10}
Row = dict[str, Any]
Array = np.ndarray[Any, Any]


def zoo(libraries: list[str]) -> list[Configuration]:
    found = configurations(*(lib for lib in libraries if lib != "sklearn")) if set(libraries) - {"sklearn"} else []
    return found + (forests() if "sklearn" in libraries else [])


def library_of(booster: Any, settings: dict[str, Any]) -> Callable[[Array], dict[str, Any]]:
    """What the library says to rows, by the names of the export's outputs."""
    module = type(booster).__module__.split(".")[0]
    if module != "sklearn":
        source = import_module(f"gesher.frontends.boosters.{module}").source_of(booster, settings)
        return lambda x: dict(source.answer(x))
    if not hasattr(booster, "predict_proba"):
        return lambda x: {"prediction": booster.predict(x)}

    def ask(x: Array) -> dict[str, Any]:
        shares = booster.predict_proba(x)
        several = {f"probabilities_{i}": s for i, s in enumerate(shares)} if isinstance(shares, list) else \
            {"probabilities": shares}
        return {"label": booster.predict(x), **several}

    return ask


def counts(c: Configuration) -> Iterator[Row]:
    """Each engine's outcome on the export's own trials."""
    booster, x = c.make()
    try:
        made = frontend_for(booster).export(booster, x, ExportOptions(settings=c.settings))
    except gesher.UnsupportedError as e:
        yield from (_row("counts", c, engine=e_, status="refused", why=e.what) for e_ in ENGINES)
        return
    for engine in ENGINES:
        status, why = "right", ""
        try:
            for trial, output, d in faults(made, engine):
                status, why = "wrong", f"{trial.name}, {output}: {d.why or d.max_abs}"
        except gesher.UnsupportedError as e:
            status, why = "refused", e.what
        yield _row("counts", c, engine=engine, status=status, why=why)


def own_thresholds(booster: Any) -> dict[int, Array]:
    """What scikit-learn's trees compare with, before any rounding."""
    found: dict[int, list[float]] = {}
    for e in np.ravel(getattr(booster, "estimators_", [booster])):
        tree = getattr(e, "tree_", None)
        if tree is not None:
            for f, s in zip(tree.feature, tree.threshold):
                if f >= 0:
                    found.setdefault(int(f), []).append(float(s))
    return {f: np.unique(s) for f, s in found.items()}


def rows(c: Configuration) -> Iterator[Row]:
    """Random rows and rows on thresholds, on the engines that are fast enough for so many."""
    booster, x = c.make()
    try:
        model = gesher.export(booster, x, **c.settings)
    except gesher.UnsupportedError:
        return
    ask = library_of(booster, c.settings)
    exact = own_thresholds(booster) if c.library == "sklearn" else {}
    sets = {"random": random_rows(x), "thresholds": boundary_rows(model, x, exact)}
    for engine in ("compiled", "onnxruntime"):
        with gesher.session(model, engine) as session:
            for kind, some in sets.items():
                if len(some):
                    yield _row("rows", c, engine=engine, kind=kind, dtype=x.dtype.name,
                               **asdict(held(session, ask, some)))


@dataclass(frozen=True)
class Sized:
    """A model of the size that people deploy, for timing; `make(x, y)` fits it."""

    library: str
    name: str
    make: Callable[[Array, Array], Any]
    classes: int = 2


def sized() -> list[Sized]:
    """Boosters and forests of 100 trees."""
    import catboost as cb
    import lightgbm as lgb
    import xgboost as xgb
    from sklearn import ensemble

    quiet = {"verbose": -1, "n_jobs": 1}
    cat = {"iterations": 100, "verbose": 0, "allow_writing_files": False, "thread_count": 1}
    trees = {"n_estimators": 100, "random_state": 0}
    return [
        Sized("xgboost", "XGBClassifier, 100 of depth 6", lambda x, y: xgb.XGBClassifier(n_jobs=1).fit(x, y)),
        Sized("xgboost", "XGBClassifier, 100 of depth 6, five classes",
              lambda x, y: xgb.XGBClassifier(n_jobs=1).fit(x, y), 5),
        Sized("xgboost", "XGBRegressor, 100 of depth 6", lambda x, y: xgb.XGBRegressor(n_jobs=1).fit(x, y), 0),
        Sized("lightgbm", "LGBMClassifier, 100 of 31 leaves", lambda x, y: lgb.LGBMClassifier(**quiet).fit(x, y)),
        Sized("lightgbm", "LGBMClassifier, 100 of 31 leaves, five classes",
              lambda x, y: lgb.LGBMClassifier(**quiet).fit(x, y), 5),
        Sized("lightgbm", "LGBMRegressor, 100 of 31 leaves", lambda x, y: lgb.LGBMRegressor(**quiet).fit(x, y), 0),
        Sized("catboost", "CatBoostClassifier, 100 of depth 6", lambda x, y: cb.CatBoostClassifier(**cat).fit(x, y)),
        Sized("catboost", "CatBoostClassifier, 100 of depth 6, five classes",
              lambda x, y: cb.CatBoostClassifier(**cat).fit(x, y), 5),
        Sized("catboost", "CatBoostRegressor, 100 of depth 6", lambda x, y: cb.CatBoostRegressor(**cat).fit(x, y), 0),
        Sized("sklearn", "RandomForestClassifier, 100 trees",
              lambda x, y: ensemble.RandomForestClassifier(**trees).fit(x, y)),
        Sized("sklearn", "RandomForestClassifier, 100 trees, five classes",
              lambda x, y: ensemble.RandomForestClassifier(**trees).fit(x, y), 5),
        Sized("sklearn", "RandomForestRegressor, 100 trees",
              lambda x, y: ensemble.RandomForestRegressor(**trees).fit(x, y), 0),
        Sized("sklearn", "GradientBoostingClassifier, 100 of depth 3",
              lambda x, y: ensemble.GradientBoostingClassifier(**trees).fit(x, y)),
        Sized("sklearn", "HistGradientBoostingClassifier, 100 iterations",
              lambda x, y: ensemble.HistGradientBoostingClassifier(random_state=0).fit(x, y)),
        Sized("sklearn", "HistGradientBoostingRegressor, 100 iterations",
              lambda x, y: ensemble.HistGradientBoostingRegressor(random_state=0).fit(x, y), 0),
    ]


def fitted(s: Sized) -> tuple[Any, Array]:
    """The model, and rows to ask it with (float32)."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 20)).astype(np.float32)
    real = x[:, 0] + x[:, 1] * x[:, 2] + np.abs(x[:, 3]) + 0.3 * rng.normal(size=len(x))
    y = np.digitize(real, np.quantile(real, np.linspace(0, 1, s.classes + 1)[1:-1])) if s.classes else real
    booster = s.make(x, y)
    return booster, rng.normal(size=(10_000, 20)).astype(np.float32)


def turns(ours: Callable[[], Any], theirs: Callable[[], Any], seconds: float) -> tuple[list[float], list[float]]:
    """Seconds of the processor of each run, turn about for so long, after one run each that nobody counts."""
    times: tuple[list[float], list[float]] = ([], [])
    ours(), theirs()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 3:
        for work, kept in zip((ours, theirs), times):
            # Short runs are taken ten at a time, since the clock and the turn before would be felt.
            start, many = time.thread_time(), 1
            work()
            if time.thread_time() - start < 2e-3:
                start, many = time.thread_time(), 10
                for _ in range(many):
                    work()
            kept.append((time.thread_time() - start) / many)
    return times


def latency(s: Sized, seconds: float = 3.0) -> Iterator[Row]:
    """Our session on one thread against the library's own predict."""
    from threadpoolctl import threadpool_limits

    booster, x = fitted(s)
    model = gesher.export(booster, x)
    with gesher.session(model, "compiled", threads=1) as session, threadpool_limits(1):
        for count in (1, 10_000):
            some = np.ascontiguousarray(x[:count])
            one, other = turns(partial(session.run, {"X": some}), partial(booster.predict, some), seconds)
            yield _row("latency", s, rows=count, ours=median(one), theirs=median(other),
                       ratio=median(one) / median(other))


def rival_export(s: Sized, booster: Any, x: Array, folder: Path) -> Callable[[], Any]:
    """The same export by the tool that people use."""
    import onnxmltools
    import skl2onnx
    from onnxmltools.convert.common.data_types import FloatTensorType
    from skl2onnx.common.data_types import FloatTensorType as SkFloat

    width = x.shape[1]
    if s.library == "xgboost":
        return lambda: onnxmltools.convert_xgboost(booster, initial_types=[("X", FloatTensorType([None, width]))])
    if s.library == "lightgbm":
        return lambda: onnxmltools.convert_lightgbm(booster, initial_types=[("X", FloatTensorType([None, width]))],
                                                    zipmap=False)
    if s.library == "catboost":
        return lambda: booster.save_model(str(folder / "m.onnx"), format="onnx")
    return lambda: skl2onnx.convert_sklearn(booster, initial_types=[("X", SkFloat([None, width]))])


def exporting(s: Sized, folder: Path) -> Iterator[Row]:
    """Seconds of the processor, the best of several: ours with its verification and without it."""
    booster, x = fitted(s)

    def best(work: Callable[[], Any], times: int) -> float:
        found = []
        for _ in range(times):
            start = time.process_time()
            work()
            found.append(time.process_time() - start)
        return min(found)

    theirs, why = None, ""
    try:
        theirs = best(rival_export(s, booster, x, folder), 2)
    except Exception as e:
        why = f"{type(e).__name__}: {str(e).splitlines()[0][:100]}" if str(e) else type(e).__name__
    verified, bare = (best(partial(gesher.export, booster, x, verify=v), 3) for v in (True, False))
    yield _row("export", s, verified=verified, bare=bare, theirs=theirs, why=why,
               ratio=None if theirs is None else verified / theirs,
               ratio_bare=None if theirs is None else bare / theirs)


def large(folder: Path) -> Iterator[Row]:
    """A forest of 1000 trees of depth 20."""
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 20)).astype(np.float32)
    y = rng.integers(0, 2, len(x))
    forest = RandomForestClassifier(1000, max_depth=20, random_state=0).fit(x, y)
    s = Sized("sklearn", "RandomForestClassifier, 1000 trees of depth 20", lambda x, y: forest)
    nodes = sum(e.tree_.node_count for e in forest.estimators_)
    start = time.process_time()
    gesher.export(forest, x)
    verified = time.process_time() - start
    start = time.process_time()
    gesher.export(forest, x, verify=False)
    yield _row("export", s, verified=verified, bare=time.process_time() - start, theirs=None, ratio=None,
               ratio_bare=None, why=f"{nodes} nodes; goal 5 s")


def _row(part: str, c: Any, **more: Any) -> Row:
    now = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
    return {"part": part, "library": c.library, "name": c.name, "measured": now} | more


def kept(new: list[Row]) -> list[Row]:
    """The rows of this and earlier runs, the newest of each."""
    path = store.folder() / "boosters.json"
    before = json.loads(path.read_text()) if path.exists() else []
    merged = {(r["part"], r["library"], r["name"], r.get("engine"), r.get("kind"),
               r["rows"] if r["part"] == "latency" else 0): r
              for r in [*before, *new]}
    path.write_text(json.dumps(list(merged.values()), indent=1))
    return list(merged.values())


def section(found: list[Row]) -> str:
    """The whole section, between its markers."""
    parts = [BEGIN, "## Boosted trees and forests", "",
             "Written by `./dev bench boosters --write`; configurations: `bench/booster_zoo.py`.", "",
             f"- {os.cpu_count()} cores, shared; rows measured {min(r['measured'] for r in found)} to "
             f"{max(r['measured'] for r in found)} UTC",
             "- " + versions("xgboost", "lightgbm", "catboost", "scikit-learn", "onnxruntime", "skl2onnx",
                             "onnxmltools"), ""]
    of = {p: [r for r in found if r["part"] == p] for p in PARTS}
    parts += ["### Configurations", "", "Right, refused and wrong, on the export's own trials (example, shuffled "
              "columns, rows on thresholds, missing values).", ""]
    parts += [markdown(["library", *ENGINES], [[lib, *("/".join(str(sum(
        r["library"] == lib and r["engine"] == e and r["status"] == s for r in of["counts"]))
        for s in ("right", "refused", "wrong")) for e in ENGINES)] for lib in LIBRARIES]), ""]
    parts += [f"- {r['library']}, {r['name']}, {r['engine']}: {r['status']}: {r['why']}" for r in of["counts"]
              if r["status"] != "right"] + [""]
    narrow, wide = (f"{TOLERANCE[k]:g}" for k in ("float32", "float64"))
    parts += ["### Rows that differ", "", "100,000 random rows and 10,000 on thresholds or one number of the type "
              "beside them, of each configuration: rows with another label, and the largest difference of a number as "
              f"a part of that output's largest (stated tolerance {narrow} for models of float32 and of XGBoost, "
              f"{wide} for float64). Forests sum shares exactly; where classes have equally many votes, the library's "
              "label is that which the roundings of its own sum leave ahead, and may be the other one.", ""]
    lines = []
    for lib in LIBRARIES:
        for dtype in ("float32", "float64"):
            for e in ("compiled", "onnxruntime"):
                these = [r for r in of["rows"] if (r["library"], r["dtype"], r["engine"]) == (lib, dtype, e)]
                if these:
                    by = {k: [r for r in these if r["kind"] == k] for k in ("random", "thresholds")}
                    lines.append([lib, dtype, e, str(len({r["name"] for r in these})),
                                  *(f"{sum(r['labels'] for r in by[k])}" for k in by),
                                  *(f"{max((r['worst'] for r in by[k]), default=0):.1e}" for k in by)])
    parts += [markdown(["library", "features", "engine", "configurations", "labels, random", "labels, thresholds",
                        "numbers, random", "numbers, thresholds"], lines, right=(3, 4, 5, 6, 7)), ""]
    parts += ["### Latency against the library's own predict", "", "One thread each, processor time, median.", ""]
    times = {(r["name"], r["rows"]): r for r in of["latency"]}
    names = list(dict.fromkeys(r["name"] for r in of["latency"]))
    parts += [markdown(["model", "1 row", "library", "ratio", "10,000 rows", "library", "ratio"], [
        [n, *(cell for k in (1, 10_000) for cell in (human(times[n, k]["ours"]), human(times[n, k]["theirs"]),
                                                     f"{times[n, k]['ratio']:.3f}"))] for n in names],
        right=(1, 2, 3, 4, 5, 6)), ""]
    for k, goal in ((1, "must 0.1, aim 0.02"), (10_000, "must 0.5, aim 0.2")):
        ratios = [r["ratio"] for r in of["latency"] if r["rows"] == k]
        if ratios:
            parts += [f"- {k:,} rows: mean ratio {geometric_mean(ratios):.3f}, worst {max(ratios):.3f} ({goal})"]
    parts += ["", "### Exporting", "", "Processor seconds; the ratio is to onnxmltools, skl2onnx or CatBoost's own "
              "writer, which verify nothing.", ""]
    parts += [markdown(["model", "verified", "not verified", "rival", "ratio", "ratio, not verified"], [
        [r["name"], human(r["verified"]), human(r["bare"]),
         human(r["theirs"]) if r["theirs"] else f"- {r['why']}",
         *("-" if r[k] is None else f"{r[k]:.3f}" for k in ("ratio", "ratio_bare"))] for r in of["export"]],
        right=(1, 2, 3, 4, 5)), ""]
    for k, said in (("ratio", "verified"), ("ratio_bare", "not verified")):
        ratios = [r[k] for r in of["export"] if r[k]]
        if ratios:
            parts += [f"- mean ratio, {said}: {geometric_mean(ratios):.3f} (must 0.3, aim 0.1)"]
    return "\n".join([*parts, END]) + "\n"


def put(path: Path, text: str) -> None:
    """Write the section into a file, in place of what stood between its markers, else at the end."""
    before = path.read_text(encoding="utf-8")
    if BEGIN in before:
        head, _, rest = before.partition(BEGIN)
        path.write_text(head + text.rstrip("\n") + rest.partition(END)[2], encoding="utf-8")
    else:
        path.write_text(before.rstrip("\n") + "\n\n" + text, encoding="utf-8")


def bad(r: Row) -> bool:
    """What must not be."""
    if r["part"] == "counts":
        return bool(r["status"] == "wrong")
    return r["part"] == "rows" and (r["labels"] > 0 or r["worst"] > _tolerance(r))


def _tolerance(r: Row) -> float:
    return TOLERANCE["float32" if r["library"] == "xgboost" else r["dtype"]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default=",".join(PARTS), help="comma-separated, of " + " ".join(PARTS))
    parser.add_argument("--library", default=",".join(LIBRARIES))
    parser.add_argument("--only", default="", help="a part of the names")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each race")
    parser.add_argument("--write", action="store_true", help="write the table into bench/RESULTS.md")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    asked, libraries = args.part.split(","), args.library.split(",")
    folder, new = store.folder(), []

    def work() -> Iterator[Iterator[Row]]:
        for part, of in (("counts", counts), ("rows", rows)):
            if part in asked:
                yield from (of(c) for c in zoo(libraries) if args.only in c.name)
        for s in sized():
            if s.library in libraries and args.only in s.name:
                if "latency" in asked:
                    yield latency(s, args.seconds)
                if "export" in asked:
                    yield exporting(s, folder)
        if "export" in asked and "sklearn" in libraries and args.only in "1000 trees":
            yield large(folder)

    for made in work():
        for r in made:
            new.append(r)
            _tell(r)
        kept(new)
    if args.write:
        put(Path(__file__).with_name("RESULTS.md"), section(kept(new)))
    return int(any(map(bad, new)))


def _tell(r: Row) -> None:
    shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in r.items()
             if k not in ("part", "library", "name", "measured") and v not in ("", None)}
    print(f"{'BAD ' if bad(r) else ''}{r['part']:8} {r['library']:9} {r['name']:48} "
          + " ".join(f"{k}={v}" for k, v in shown.items()), flush=True)


if __name__ == "__main__":
    sys.exit(main())
