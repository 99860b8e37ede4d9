"""PyTorch's OpInfo samples cross: right on `reference` and on ONNX Runtime, or refused as the gap file says.

By default a fixed sample of the entries, each with its first telling sample and two others; all of them in `--all`.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("expecttest", reason="PyTorch's own test tools need expecttest")

ROOT = Path(__file__).resolve().parents[3]
GAPS = ROOT / "tests" / "suites" / "gaps_opinfo.txt"
SAMPLED = 40


@pytest.fixture(scope="module")
def opinfo() -> Any:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import opinfo

        yield opinfo
    finally:
        sys.path.remove(str(ROOT / "bench"))
        sys.modules.pop("opinfo", None)


def gaps() -> dict[str, str]:
    """Entries that do not cross yet, with the reason."""
    lines = [line for line in GAPS.read_text().splitlines() if line and not line.startswith("#")]
    return {line.split()[0]: line.partition(" ")[2].strip() for line in lines}


def outcomes(opinfo: Any, op: Any, count: int | None) -> list[Any]:
    from gesher.frontends.protocol import ExportOptions

    options = ExportOptions(verify=False)
    return [opinfo.judge(opinfo.full_name(op), i, module, answers, options)
            for i, module, answers in opinfo.samples(op, count)]


def test_entries_cross_or_are_refused_as_the_gap_file_says(opinfo: Any, run_all: bool) -> None:
    entries, known = opinfo.entries(), gaps()
    chosen = entries if run_all else random.Random(5).sample(entries, SAMPLED)
    surprises = []
    for op in chosen:
        for o in outcomes(opinfo, op, None):
            wanted = ("refused", "engine") if o.name in known else ("right",)
            if o.status not in wanted:
                surprises.append(f"{o.name}[{o.sample}] is {o.status}: {o.why}")
    assert not surprises, "\n".join(surprises)


def test_no_sample_is_wrong_in_silence(opinfo: Any, run_all: bool) -> None:
    entries = opinfo.entries()
    chosen = entries if run_all else random.Random(6).sample(entries, SAMPLED // 2)
    faults = [f"{o.name}[{o.sample}] is {o.status}: {o.why}" for op in chosen
              for o in outcomes(opinfo, op, 6 if run_all else 2) if o.status in ("wrong", "crashed")]
    assert not faults, "\n".join(faults)


def test_every_gap_is_an_entry(opinfo: Any) -> None:
    names = {opinfo.full_name(op) for op in opinfo.entries()}
    assert set(gaps()) <= names and all(gaps().values())
