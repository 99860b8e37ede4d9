"""Every test runs with the compiled engine's cache in a folder of its own, so that no run depends on an older one, and
with `GESHER_VERIFY=1`, so that a lowering that trips fails its test instead of falling back."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _faults_are_errors() -> None:
    os.environ.setdefault("GESHER_VERIFY", "1")


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own() -> Iterator[None]:
    if os.environ.get("GESHER_CACHE"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="gesher-test-") as folder:
        cache = Path(folder) / "cache"
        os.environ["GESHER_CACHE"] = str(cache)
        yield
        del os.environ["GESHER_CACHE"]


@pytest.fixture(scope="session")
def run_all() -> bool:
    """True in `./dev test --all`: slow suites run whole instead of sampled."""
    return os.environ.get("GESHER_TEST_ALL") == "1"
