"""`gesher show`: what a model is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .console import human_bytes, say, say_json, table
from .inputs import feeds_options, json_option, make_feeds, model_argument, precision_option

if TYPE_CHECKING:
    from gesher.ir import Model, Tensor


@click.command()
@model_argument
@click.option("--nodes", is_flag=True, help="List the graph, node by node, with inferred shapes.")
@click.option("--weights", is_flag=True, help="List the tensors.")
@click.option("--text", is_flag=True, help="Print the model in ONNX's text syntax.")
@click.option("--engine", type=click.Choice(["compiled"]), help="Show what this engine makes of the model.")
@click.option("--html", type=click.Path(dir_okay=False, path_type=Path),
              help="With --engine: write a page of it into this file.")
@feeds_options
@precision_option
@json_option
def command(model: Path, nodes: bool, weights: bool, text: bool, engine: str | None, html: Path | None,
            given: tuple[str, ...], dims: tuple[str, ...], shapes: tuple[str, ...], seed: int, precision: str,
            as_json: bool) -> None:
    """What a model is: inputs and outputs, opsets, producer, metadata, operators by count, weights by type.

    With --engine compiled: its kernels and loop nests with shapes, operations and bytes. Free sizes stand there as
    expressions; give inputs, --dim or --shape, and it is run once and they are numbers.

    \b
    Example:
      gesher show model.onnx --nodes
      gesher show model.onnx --engine compiled --dim batch=1 --html model.html
    """
    import gesher

    if engine is None and (html or given or dims or shapes or precision != "f32"):
        raise click.UsageError("--html, --input, --dim, --shape and --precision are for --engine compiled")

    if text:
        from gesher.codec import to_text
        from gesher.ir.bridge import to_message

        say(to_text(to_message(gesher.load(model))))
        return
    loaded = gesher.load(model)
    if engine == "compiled":
        feeds = make_feeds(loaded, given, dims, shapes, seed, random=True) if given or dims or shapes else None
        show_compiled(loaded, model, feeds, html, as_json, precision)
        return
    facts = summary(loaded)
    if as_json:
        if nodes:
            facts["nodes"] = node_lines(loaded)
        if weights:
            facts["tensors"] = [{"name": n, "dtype": t.dtype.name, "shape": list(t.shape), "bytes": t.nbytes}
                                for n, t in tensors(loaded)]
        say_json(facts)
        return
    print_summary(facts, model)
    if nodes:
        say()
        for line in node_lines(loaded):
            say(line)
    if weights:
        say()
        table(["tensor", "type", "shape", "size"],
              [(n, t.dtype.name, "x".join(map(str, t.shape)) or "scalar", human_bytes(t.nbytes))
               for n, t in tensors(loaded)], right=(3,))


def show_compiled(model: Model, path: Path, feeds: Mapping[str, Any] | None, html: Path | None,
                  as_json: bool, precision: str = "f32") -> None:
    """What the compiled engine makes of a model: as text, as JSON, or as a page."""
    from gesher.compiler.explain import left, segments
    from gesher.compiler.work import number_of, works
    from gesher.engines.compiled import compiled

    from .profiling import page_of

    session = compiled(model, precision=precision)
    try:
        if feeds is not None:
            session.run(feeds)
        if html is not None:
            html.write_text(page_of(session, path.name, ["compiled by gesher"], None), encoding="utf-8")
            say(f"{html} written")
        elif as_json:
            say_json({"left": left(session), "segments": [
                {"title": title, "steps": [
                    {"kind": w.kind, "depth": w.depth, "what": w.what, "comment": w.comment, "shapes": w.shapes(sizes),
                     "flops": number_of(w.flops, sizes), "bytes": number_of(w.bytes, sizes)} for w in works(program)]}
                for title, program, sizes in segments(session)]})
        else:
            say(session.explain())
    finally:
        session.close()


def tensors(model: Model) -> list[tuple[str, Tensor]]:
    """Every constant of the model with its name: initializers, and what Constant nodes hold."""
    from gesher.ir import Tensor

    found: list[tuple[str, Tensor]] = []
    for g in model.graphs():
        found += [(v.name, v.constant) for v in g.initializers if isinstance(v.constant, Tensor)]
        for n in g.nodes:
            if n.op_type == "Constant" and n.domain in ("", "ai.onnx"):
                value = n.attr("value")
                if isinstance(value, Tensor) and n.outputs and n.outputs[0] is not None:
                    found.append((n.outputs[0].name, value))
    return found


def summary(model: Model) -> dict[str, Any]:
    """The facts that `show` prints, as plain data."""
    graphs = list(model.graphs())
    operators: Counter[str] = Counter()
    for g in graphs:
        operators.update(f"{n.domain}.{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type
                         for n in g.nodes)
    by_type: Counter[str] = Counter()
    parameters = 0
    for _, t in tensors(model):
        by_type[t.dtype.name] += t.nbytes
        if t.dtype.is_float:
            parameters += t.size
    return {
        "name": model.graph.name, "ir_version": model.ir_version,
        "opsets": {d or "ai.onnx": v for d, v in model.opsets.items()},
        "producer": f"{model.producer_name} {model.producer_version}".strip(), "domain": model.domain,
        "model_version": model.model_version, "doc": model.doc, "metadata": dict(model.metadata),
        "inputs": [{"name": v.name, "type": str(v.type or "?"), "optional": v.constant is not None}
                   for v in model.graph.inputs],
        "outputs": [{"name": v.name, "type": str(v.type or "?")} for v in model.graph.outputs],
        "nodes": sum(len(g) for g in graphs), "subgraphs": len(graphs) - 1 - len(model.functions),
        "functions": [f"{f.domain}.{f.name}" for f in model.functions.values()],
        "operators": dict(operators.most_common()), "parameters": parameters, "bytes_by_type": dict(by_type),
    }


def print_summary(facts: dict[str, Any], path: Path) -> None:
    say(f"{path}  {human_bytes(path.stat().st_size)}")
    opsets = ", ".join(f"{d} {v}" for d, v in facts["opsets"].items())
    say(f"IR version {facts['ir_version']}, opsets {opsets}" +
        (f", made by {facts['producer']}" if facts["producer"] else ""))
    if facts["doc"]:
        say(facts["doc"].strip())
    say()
    table(["", "name", "type"],
          [("in", v["name"], v["type"] + (" (has a default)" if v["optional"] else "")) for v in facts["inputs"]] +
          [("out", v["name"], v["type"]) for v in facts["outputs"]])
    say()
    say(f"{facts['nodes']} nodes" + (f", {facts['subgraphs']} subgraphs" if facts["subgraphs"] else "") +
        (f", functions {', '.join(facts['functions'])}" if facts["functions"] else ""))
    say("  " + "  ".join(f"{n} {c}" for n, c in facts["operators"].items()))
    size = sum(facts["bytes_by_type"].values())
    say(f"{facts['parameters']:,} parameters, {human_bytes(size)}: " +
        (", ".join(f"{n} {human_bytes(b)}" for n, b in facts["bytes_by_type"].items()) or "no weights"))
    if facts["metadata"]:
        say()
        table(["metadata", ""], facts["metadata"].items())


def node_lines(model: Model) -> list[str]:
    """The graph as text, nested graphs indented, with what inference knows of each output."""
    from gesher.inference import infer

    facts = infer(model)
    lines: list[str] = []
    # A stack instead of recursion: graphs may nest deeper than Python's own stack.
    pending: list[tuple[Any, int]] = [(model.graph, 0)]
    for f in reversed(model.functions.values()):
        pending.insert(0, (f, 0))
    while pending:
        item, depth = pending.pop()
        pad = "  " * depth
        if isinstance(item, str):
            lines.append(pad + item)
            continue
        from gesher.ir import Graph, Node

        if isinstance(item, Graph):
            given = ", ".join(f"%{v.name}" for v in item.inputs)
            lines.append(f"{pad}{item.place} ({given}) -> {', '.join('%' + v.name for v in item.outputs)}")
            pending += [(n, depth + 1) for n in reversed(item.nodes)]
        elif isinstance(item, Node):
            types = []
            for o in item.outputs:
                fact = facts.get(o) if o is not None else None
                types.append(str(fact.type) if fact is not None and fact.type is not None else "?")
            lines.append(f"{pad}{item!r}  : {', '.join(types)}")
            pending += [(g, depth + 1) for g in reversed(list(item.subgraphs()))]
    return lines


