"""Every test runs with the compiled engine's cache in a folder of its own, so that no run depends on an older one, and
with `GESHER_VERIFY=1`, so that a lowering that trips fails its test instead of falling back."""

import os
import tempfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def _faults_are_errors() -> None:
    os.environ.setdefault("GESHER_VERIFY", "1")


CACHE = pytest.StashKey[tempfile.TemporaryDirectory]()


def pytest_configure(config: pytest.Config) -> None:
    """One cache for all the workers of a run, so that what one has compiled the other need not; the workers' parent
    makes it, and they have it by its name."""
    if not hasattr(config, "workerinput") and not os.environ.get("GESHER_CACHE"):
        folder = config.stash[CACHE] = tempfile.TemporaryDirectory(prefix="gesher-test-")
        os.environ["GESHER_CACHE"] = str(Path(folder.name) / "cache")


def pytest_unconfigure(config: pytest.Config) -> None:
    if CACHE in config.stash:
        del os.environ["GESHER_CACHE"]
        config.stash[CACHE].cleanup()


@pytest.fixture(scope="session")
def run_all() -> bool:
    """True in `./dev test --all`: slow suites run whole instead of sampled."""
    return os.environ.get("GESHER_TEST_ALL") == "1"
