"""How long does it take to start, and to open a model? Against onnx.load and onnx_ir.load, in one run.

    ./dev bench opening
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from measuring import interleaved, peak_of, row, versions, whole_process
from models.written import bert, chain, external


def starting() -> None:
    bare = whole_process([sys.executable, "-c", "pass"])
    ours = whole_process([sys.executable, "-c", "import gesher"]) - bare
    row("import gesher (above bare Python)", f"{ours * 1e3:.0f} ms", f"bare {bare * 1e3:.0f} ms", None, "<= 100 ms",
        ours <= 0.1)
    helped = whole_process([sys.executable, "-m", "gesher", "--help"])
    row("gesher --help, whole process", f"{helped * 1e3:.0f} ms", "", None, "<= 250 ms", helped <= 0.25)


def opening(folder: Path) -> None:
    big = folder / "external.onnx"
    external(big, 1500)
    found = interleaved({
        "gesher": ("import gesher; gesher.load", f"gesher.load({str(big)!r})"),
        "onnx": ("import onnx", f"onnx.load({str(big)!r})"),
    }, repeat=3)
    ours, theirs = found["gesher"], found["onnx"]
    row("open 1.5 GB of external weights", f"{ours.time * 1e3:.1f} ms {ours.memory:.0f} MB",
        f"onnx {theirs.time * 1e3:.0f} ms {theirs.memory:.0f} MB", ours.time / theirs.time, "<= 50 ms, <= 100 MB",
        ours.time <= 0.05 and ours.memory <= 100)
    big.with_suffix(".data").unlink()

    single = folder / "bert.onnx"
    bert(single)
    found = interleaved({
        "gesher": ("import gesher; gesher.load", f"gesher.load({str(single)!r})"),
        "onnx": ("import onnx", f"onnx.load({str(single)!r})"),
    }, repeat=5)
    ours, theirs = found["gesher"], found["onnx"]
    row(f"open BERT of {single.stat().st_size / 1e6:.0f} MB", f"{ours.time * 1e3:.1f} ms {ours.memory:.0f} MB",
        f"onnx {theirs.time * 1e3:.0f} ms {theirs.memory:.0f} MB", ours.time / theirs.time, "<= 0.1 of onnx.load",
        ours.time <= 0.1 * theirs.time)
    single.unlink()

    for nodes in (4000, 20000):
        chain(folder / f"chain{nodes}.onnx", nodes)
    path = str(folder / "chain20000.onnx")
    found = interleaved({
        "gesher": ("import gesher; gesher.load", f"gesher.load({path!r})"),
        "onnx_ir": ("import onnx_ir", f"onnx_ir.load({path!r})"),
    }, repeat=7)
    ours, theirs = found["gesher"], found["onnx_ir"]
    row("open 20,000 nodes with use lists", f"{ours.time * 1e3:.0f} ms",
        f"onnx_ir {theirs.time * 1e3:.0f} ms", ours.time / theirs.time, "<= 0.5 (aim 0.3)",
        ours.time <= 0.5 * theirs.time)


def looking(folder: Path) -> None:
    """Check and infer: time by nodes, and the peak of the whole process on weights that lie beside the model."""
    for n in (20000, 100000):
        chain(folder / f"chain{n}.onnx", n)
    whole = "m = gesher.load({!r}); gesher.check(m); gesher.infer(m)"
    found = interleaved({str(n): ("import gesher", whole.format(str(folder / f"chain{n}.onnx")))
                         for n in (20000, 100000)}, repeat=3)
    small, large = found["20000"].cpu, found["100000"].cpu
    row("load + check + infer, 20,000 nodes, processor", f"{small:.2f} s", "", None, "<= 2 s", small <= 2)
    row("  100,000 nodes against 20,000", f"{large:.2f} s", f"{small:.2f} s", large / small,
        "<= 6.5 (near-linear)", large <= 6.5 * small)
    (folder / "chain100000.onnx").unlink()

    big = folder / "external.onnx"
    external(big, 1500)
    for verb in ("check", "infer"):
        peak = peak_of(f"import gesher; gesher.{verb}(gesher.load({str(big)!r}))")
        row(f"{verb} a model with 1.5 GB of external weights", f"{peak:.0f} MB peak", "", None,
            "<= 150 MB, whole process", peak <= 150)
    big.with_suffix(".data").unlink()


def scaling(folder: Path) -> None:
    # The book of operators is opened before the clock starts: it is the same work whatever the model's size.
    for verb in ("check", "infer"):
        cases = {
            str(n): (f"import gesher; m = gesher.load({str(folder / f'chain{n}.onnx')!r}); "
                     "from gesher.ops import find; find('', 'Add')", f"gesher.{verb}(m)") for n in (4000, 20000)}
        found = interleaved(cases, repeat=5)
        small, large = found["4000"].time, found["20000"].time
        row(f"{verb}: 20,000 nodes against 4,000", f"{large * 1e3:.0f} ms", f"{small * 1e3:.0f} ms", large / small,
            "<= 5.5", large <= 5.5 * small)


def main() -> None:
    print(f"Python {sys.version.split()[0]}, {versions('onnx', 'onnx-ir', 'numpy')}; medians")
    print(f"{'question':52} {'gesher':>22} {'rival':>28} {'ratio':>8}  goal")
    starting()
    with tempfile.TemporaryDirectory() as name:
        opening(Path(name))
        looking(Path(name))
        scaling(Path(name))


if __name__ == "__main__":
    main()
