"""How the benchmarks measure."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))


def test_versions_name_what_is_not_installed() -> None:
    from measuring import versions

    assert versions("numpy", "no-such-package") == f"numpy {np.__version__}, no-such-package (not installed)"
