"""`gesher engines`: what is installed, and why not."""

from __future__ import annotations

import click

from .console import say_json, table
from .inputs import json_option


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Which engines are here, in which version, and what would bring the others.

    \b
    Example:
      gesher engines
    """
    from gesher.engines import engine, names

    rows = []
    for name in names():
        made = engine(name)
        why = made.missing()
        rows.append({"engine": name, "present": why is None, "version": made.version() if why is None else "",
                     "missing": why or ""})
    if as_json:
        say_json(rows)
        return
    table(["engine", "version", ""], [(r["engine"], r["version"] or "-", r["missing"] or "ready") for r in rows])
