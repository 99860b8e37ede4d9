"""`gesher ops`: the book of operators."""

from __future__ import annotations

import click

from .console import say, say_json, stop, table
from .inputs import json_option


@click.command()
@click.argument("name", required=False)
@click.option("--domain", help="Only operators of this domain (ai.onnx, ai.onnx.ml, ...).")
@click.option("--engines", is_flag=True, help="Say which engines run it, too; this asks the engines themselves.")
@click.option("--markdown", is_flag=True, help="The whole table for a document.")
@json_option
def command(name: str | None, domain: str | None, engines: bool, markdown: bool, as_json: bool) -> None:
    """The operators that gesher knows: versions, and which rules each has. With NAME, one operator in full.

    \b
    Example:
      gesher ops Softmax --engines
      gesher ops com.microsoft.Attention
      gesher ops --domain ai.onnx.ml
      gesher ops --markdown > operators.md
    """
    from gesher.ops import operators
    from gesher.ops.describe import describe, explain, markdown_table, row

    chosen = [o for o in operators()
              if (domain is None or (o.domain or "ai.onnx") == domain)
              and (name is None or name in (o.name, f"{o.domain or 'ai.onnx'}.{o.name}"))]
    if name is not None and not chosen:
        stop(f"gesher knows no operator '{name}'" + _meant(name, [o.name for o in operators()]))
    if not chosen:
        stop(f"gesher knows no operators of the domain '{domain}'; there are " +
             ", ".join(sorted({o.domain or "ai.onnx" for o in operators()})))
    rows = [row(o) for o in chosen]
    runs: list[dict[str, str]] = []
    if engines:
        # Engines are large packages, and imported only when asked for.
        from gesher.engines.operators import engines_of

        runs = [engines_of(o) for o in chosen]
        rows = [{**r, "engines": e} for r, e in zip(rows, runs)]
    if markdown:
        say(markdown_table(rows))
        return
    if as_json:
        say_json([{**explain(o), **r} for o, r in zip(chosen, rows)] if name is not None else rows)
        return
    if name is not None:
        for i, o in enumerate(chosen):
            say(describe(o))
            if engines:
                say("engines that run it, by version (? where they do not tell)")
                say("  " + ", ".join(f"{e} {versions}" for e, versions in runs[i].items()))
        return
    if engines:
        table(["operator", "versions", *runs[0]] if runs else ["operator", "versions"],
              [(r["name"], " ".join(map(str, r["versions"])), *e.values()) for r, e in zip(rows, runs)])
        return
    table(["operator", "versions", "infer", "reference", "compiled"],
          [(r["name"], " ".join(map(str, r["versions"])), r["infer"], r["reference"], r["lower"]) for r in rows])
    say(f"{len(rows)} operators, {sum(len(r['versions']) for r in rows)} versions; a number says since which version "
        "a rule holds, - that there is none")


def _meant(name: str, known: list[str]) -> str:
    """`; did you mean Softmax?` where a name is like one that is known."""
    from difflib import get_close_matches

    short = {k.lower(): k for k in known}
    near = get_close_matches(name.rpartition(".")[2].lower(), short, 1, 0.75)
    return f"; did you mean {short[near[0]]}?" if near else ""
