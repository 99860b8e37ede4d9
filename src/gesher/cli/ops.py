"""`gesher ops`: the book of operators."""

from __future__ import annotations

import click

from .console import say, say_json, stop, table
from .inputs import json_option


@click.command()
@click.argument("name", required=False)
@click.option("--domain", help="Only operators of this domain (ai.onnx, ai.onnx.ml, ...).")
@json_option
def command(name: str | None, domain: str | None, as_json: bool) -> None:
    """The operators that gesher knows: versions, and which rules each has. With NAME, one operator in full.

    \b
    Example:
      gesher ops Softmax
      gesher ops --domain ai.onnx.ml
    """
    from gesher.ops import operators
    from gesher.ops.describe import describe, row

    chosen = [o for o in operators()
              if (domain is None or (o.domain or "ai.onnx") == domain) and (name is None or o.name == name)]
    if name is not None and not chosen:
        near = [o.name for o in operators() if o.name.lower() == name.lower()]
        stop(f"gesher knows no operator '{name}'" + (f"; did you mean {near[0]}?" if near else ""))
    rows = [row(o) for o in chosen]
    if as_json:
        say_json(rows)
        return
    if name is not None:
        for o in chosen:
            say(describe(o))
        return
    table(["operator", "versions", "infer", "reference", "compiled"],
          [(r["name"], " ".join(map(str, r["versions"])), r["infer"], r["reference"], r["lower"]) for r in rows])
    say(f"{len(rows)} operators, {sum(len(r['versions']) for r in rows)} versions; a number says since which version "
        "a rule holds, - that there is none")
