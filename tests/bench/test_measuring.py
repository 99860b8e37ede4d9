"""How the benchmarks measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def test_versions_name_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "bench"))
    from measuring import versions

    assert versions("numpy", "no-such-package") == f"numpy {np.__version__}, no-such-package (not installed)"
