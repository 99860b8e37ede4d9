"""The model files that the test dependencies carry: some 150 of onnx itself, and ten of real use."""

import importlib.util
from pathlib import Path

PACKAGES = ("onnx", "rapidocr_onnxruntime", "silero_vad", "basic_pitch")


def package_folder(name: str) -> Path | None:
    """The folder of a package, without importing it: some of these lack what they import."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def model_files(*packages: str) -> list[Path]:
    """Every `.onnx` file inside these packages (all of them by default)."""
    folders = [package_folder(name) for name in packages or PACKAGES]
    return sorted(p for f in folders if f is not None for p in f.rglob("*.onnx"))


def short(path: Path) -> str:
    """A name for a test's id."""
    return "/".join(path.parts[-3:])
