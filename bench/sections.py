"""Sections of `RESULTS.md` that a bench writes itself, between two marks of its own; and rows kept from run to run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "RESULTS.md"


def put(name: str, text: str, path: Path = RESULTS) -> None:
    """Write a section anew, or at the end where there is none yet."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    section = f"{begin}\n{text.strip()}\n\n{end}"
    before = path.read_text(encoding="utf-8")
    if begin in before and end in before:
        head, _, rest = before.partition(begin)
        path.write_text(head + section + rest.partition(end)[2], encoding="utf-8")
    else:
        path.write_text(f"{before.rstrip()}\n\n{section}\n", encoding="utf-8")


def kept(path: Path | None, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """These rows with those of earlier runs, by name and mode, also in the file `path` where there is one."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    earlier = json.loads(path.read_text()) if path is not None and path.exists() else []
    for row in (*earlier, *map(dict, rows)):
        found[row["name"], row["mode"]] = row
    if path is not None:
        path.write_text(json.dumps(list(found.values()), indent=1))
    return list(found.values())
