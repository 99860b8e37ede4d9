"""What names Gesher itself: a kept session is not used by another Gesher than made it."""

from pathlib import Path

import pytest

import gesher
from gesher.compiler import digest

INSIDE = b"gesher/__init__.py,sha256=a,1\ngesher/compiler/digest.py,sha256=b,2\n"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with a module, a kernel and a frontend, which is Gesher for the time of a test."""
    root = tmp_path / "site" / "gesher"
    for name in ("__init__.py", "compiler/digest.py", "compiler/kernels/gs_k.h", "frontends/torch/export.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("text")
    monkeypatch.setattr(gesher, "__file__", str(root / "__init__.py"))
    return root


def named() -> str:
    digest.house.cache_clear()
    return digest.house()


@pytest.fixture(autouse=True)
def _forgotten():
    yield
    digest.house.cache_clear()


@pytest.mark.parametrize("name", ["__init__.py", "compiler/digest.py", "compiler/kernels/gs_k.h"])
def test_a_changed_file_of_a_checkout_is_another_house(package: Path, name: str) -> None:
    before = named()
    assert named() == before
    (package / name).write_text("changed")
    assert named() != before


def test_a_file_more_or_less_is_another_house(package: Path) -> None:
    before = named()
    (package / "compiler" / "more.py").write_text("")
    assert named() != before
    (package / "compiler" / "more.py").unlink()
    assert named() == before


def test_what_the_compiler_cannot_reach_does_not_count(package: Path) -> None:
    before = named()
    (package / "frontends" / "torch" / "export.py").write_text("changed")
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.py").write_text("text")
    assert named() == before


def test_an_installed_package_goes_by_what_its_installer_wrote(package: Path) -> None:
    record = package.parent / f"gesher-{gesher.__version__}.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_bytes(INSIDE)
    before = named()
    (package / "compiler" / "digest.py").write_text("changed")
    assert named() == before
    record.write_bytes(INSIDE.replace(b"=b", b"=c"))
    assert named() != before


def test_the_record_of_a_checkout_says_nothing_of_its_files(package: Path) -> None:
    record = package.parent / f"gesher-{gesher.__version__}.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_bytes(b"__editable__.gesher.pth,sha256=a,1\n")
    before = named()
    (package / "compiler" / "digest.py").write_text("changed")
    assert named() != before


def test_an_archive_goes_by_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "gesher.pyz"
    archive.write_bytes(b"archive")
    monkeypatch.setattr(gesher, "__file__", str(archive / "gesher" / "__init__.py"))
    before = named()
    archive.write_bytes(b"another archive")
    assert named() != before
