"""`./dev demo`: the main job on real data, from training to a table that shows the models are still the same.

On scikit-learn's digits it trains a pipeline, a forest, and, where PyTorch is installed, a small CNN; exports each,
checks it, runs it over the held-out pictures on every engine that is here, and holds all answers against the
framework's own.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import gesher
from gesher.base.errors import GesherError
from gesher.cli.console import human_bytes, human_time, say, table, working
from gesher.engines import engine, names
from gesher.engines.compare import present
from gesher.evaluator.difference import difference

Array = np.ndarray[Any, Any]


@dataclass
class Case:
    """A trained thing: how to export it, what to feed it, and what its framework answers (rows, classes)."""

    title: str
    file: str
    framework: str
    export: Callable[[], gesher.Model]
    rows: Array
    labels: Array
    probabilities: Array
    seconds: float
    results: list[tuple[str, ...]] = field(default_factory=list)


def sklearn_cases(seed: int) -> tuple[list[Case], tuple[Array, ...]]:
    """The pipeline and the forest, trained on two thirds of the digits."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = load_digits(return_X_y=True)
    split = train_test_split(x.astype(np.float32), y, test_size=1 / 3, random_state=seed, stratify=y)
    x_train, x_test, y_train, _ = split
    cases = []
    for title, file, estimator in (
            ("StandardScaler + LogisticRegression", "digits-logistic.onnx",
             make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))),
            ("RandomForestClassifier, 100 trees", "digits-forest.onnx",
             RandomForestClassifier(n_estimators=100, random_state=seed))):
        estimator.fit(x_train, y_train)
        took = timed(lambda e=estimator: e.predict_proba(x_test))    # type: ignore[misc]
        cases.append(Case(title, file, "scikit-learn", lambda e=estimator: gesher.export(e, x_train),  # type: ignore[misc]
                          x_test, estimator.predict(x_test), estimator.predict_proba(x_test), took))
    return cases, split


def torch_case(split: tuple[Array, ...], seed: int) -> Case:
    """A small CNN with convolutions, batch norms, pooling and linear layers."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    x_train, x_test, y_train, _ = split
    pictures = torch.tensor(x_train.reshape(-1, 1, 8, 8) / 16)
    targets = torch.tensor(y_train)
    held_out = torch.tensor(x_test.reshape(-1, 1, 8, 8) / 16)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(12):
        for batch in torch.randperm(len(pictures)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(pictures[batch]), targets[batch]).backward()
            optimizer.step()
    net.eval()
    with torch.no_grad():
        scores = net(held_out).numpy()
        took = timed(lambda: net(held_out))
    return Case("CNN of 2 convolutions", "digits-cnn.onnx", "PyTorch",
                lambda: gesher.export(net, (held_out[:2],), dynamic={"input": {0: "batch"}}),
                held_out.numpy(), scores.argmax(1), scores, took)


def timed(run: Callable[[], Any], least: int = 5, most: int = 200, seconds: float = 0.2) -> float:
    """The median seconds of a few runs: more of them where they are short, so that warming up does not decide."""
    times: list[float] = []
    while len(times) < least or (len(times) < most and sum(times) < seconds):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def run_case(case: Case, truth: Array, folder: Path) -> bool:
    """Export, check, save and run one case; True where every engine agrees with the framework."""
    model = case.export()
    gesher.check(model).raise_errors()
    path = folder / case.file
    gesher.save(model, path)
    loaded = gesher.load(path)
    size = human_bytes(path.stat().st_size)
    accuracy = float((case.labels == truth).mean())
    case.results.append((case.title, case.framework, f"{accuracy:.2%}", "", human_time(case.seconds), size, str(path)))
    agrees = True
    for where in present(names()):
        try:
            with gesher.session(loaded, where) as session:
                feeds = {session.inputs[0].name: case.rows}
                out = session.run(feeds)
                took = timed(lambda: session.run(feeds))    # noqa: B023  (called at once)
        except gesher.UnsupportedError as e:
            case.results.append(("", where, "-", f"refuses it: {e.what.partition(': ')[2] or e.what}"[:90], "", "", ""))
            continue
        scores = next(v for v in out.values() if v.ndim == 2)
        labels = next((v for v in out.values() if v.ndim == 1), None)
        labels = scores.argmax(1) if labels is None else labels
        d = difference(scores, case.probabilities.astype(scores.dtype))
        same = bool((labels == case.labels).all())
        agrees &= d.ok and same
        verdict = f"{d.max_abs:.1e}" + ("" if d.ok else " DIFFERS") + \
            ("" if same else f" {int((labels != case.labels).sum())} LABELS DIFFER")
        case.results.append(("", where, f"{float((labels == truth).mean()):.2%}", verdict, human_time(took), "", ""))
    return agrees


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev demo", description="Train, export, check, run and compare on digits.")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="folder of the .onnx files")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with working("training on scikit-learn's digits"):
        cases, split = sklearn_cases(options.seed)
    truth = split[3]
    try:
        import torch
    except ImportError:
        torch = None    # type: ignore[assignment]
    if torch is None:
        say("PyTorch is not installed here: the CNN is left out (pip install torch brings it)")
    else:
        with working("training a CNN"):
            cases.append(torch_case(split, options.seed))
    agrees = True
    with working("exporting and running") as tell:
        for i, case in enumerate(cases):
            tell(f"{case.title}: exporting and running", i / len(cases))
            try:
                agrees &= run_case(case, truth, options.out)
            except GesherError as e:
                say(f"{case.title}: {type(e).__name__}: {e}")
                agrees = False
    table(["model", "runs on", "accuracy", "largest difference", f"latency, {len(truth)} rows", "size", "file"],
          [row for case in cases for row in case.results], right=(2, 4, 5))
    for name in names():
        why = engine(name).missing()
        if why:
            say(f"not here: {name}, {why}")
    say("every engine agrees with the frameworks" if agrees else "SOMETHING DIFFERS: see above")
    sys.exit(0 if agrees else 1)


if __name__ == "__main__":
    main()
