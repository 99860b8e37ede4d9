"""ONNX's operators that the book does not have yet. A test holds this list: whoever writes one strikes it out here."""

from __future__ import annotations

UNWRITTEN: frozenset[tuple[str, str]] = frozenset()
