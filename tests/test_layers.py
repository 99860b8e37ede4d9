"""A package imports only from packages in lines above its own, never beside or below."""

import ast
from pathlib import Path

import pytest

import gesher
from gesher.compiler import digest

LAYERS = """
base
codec symbolic
primitives ir
ops
inference
evaluator checker
rewriter
converter optimizer quantizer compiler
frontends engines
viewer server
cli
"""
RANK = {package: i for i, line in enumerate(LAYERS.split("\n")) for package in line.split()}
ROOT = Path(gesher.__file__).parent
# Modules at the top join the floors for the user; they may import any.
TOP = {"__init__", "__main__", "demo", "api"}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0].removesuffix(".py") not in TOP)


def imported(path: Path) -> set[str]:
    """The packages of gesher that a file imports, lazily or not; type-checking imports count too."""
    here = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            # In a package's __init__ one dot is the package itself, and `here` ends in "__init__" there.
            base = here[:len(here) - node.level]
            parts = ("gesher", *base, *(node.module or "").split("."))
            names = [".".join(p for p in parts if p)] if node.module or base else [f"gesher.{a.name}"
                                                                                  for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"gesher.{a.name}" for a in node.names] if node.module == "gesher" else [node.module or ""]
        found |= {n.split(".")[1] for n in names if n.startswith("gesher.")}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_up_only(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    assert package in RANK, f"{package} has no place in the table of layers"
    for other in imported(path) - {package}:
        assert other in RANK, f"{path.relative_to(ROOT)} imports gesher.{other}, which is above all layers"
        assert RANK[other] < RANK[package], f"{path.relative_to(ROOT)} imports {other}, beside or below {package}"


def test_the_table_would_catch_a_wrong_import(tmp_path: Path) -> None:
    assert RANK["ops"] < RANK["inference"] < RANK["compiler"] < RANK["cli"]
    assert imported(ROOT / "ir" / "graph.py") >= {"base"}


@pytest.mark.parametrize("package", digest.APART)
def test_what_does_not_name_a_kept_session_is_out_of_its_reach(package: str) -> None:
    assert all(RANK[package] > RANK[other] for other in ("compiler", "optimizer"))
    assert RANK[package] >= RANK["engines"]


@pytest.mark.parametrize("module", ["onnx", "google.protobuf", "onnxscript", "sympy"])
def test_nothing_imports_a_rivals_format(module: str) -> None:
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else (
                [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else [])
            for name in names:
                # The Backend interface of ONNX's own conformance suite is the one place that meets the onnx package.
                if path.relative_to(ROOT).as_posix() == "engines/onnx_backend.py" and name.startswith("onnx"):
                    continue
                assert name != module and not name.startswith(module + "."), f"{path} imports {name}"
