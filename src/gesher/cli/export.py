"""`gesher export`: from a framework's file to ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from .console import human_bytes, say, working


def known_opset(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    """An opset that models are exported to."""
    if value is None:
        return None
    from gesher.frontends import NEWEST, OLDEST_OPSET

    if not OLDEST_OPSET <= value <= NEWEST.opset:
        raise click.BadParameter(f"{value} is not of {OLDEST_OPSET} to {NEWEST.opset}")
    return value


@click.command()
@click.argument("source")
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The .onnx file.")
@click.option("--example", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="A .npy file of what it would be called with (.npz: several, by name).")
@click.option("--opset", type=int, callback=known_opset, help="Opset of ai.onnx.")
@click.option("--dynamic/--static", default=None, help="Whether the first dim of every input is free.")
@click.option("--verify/--no-verify", default=True, show_default=True,
              help="Hold the result against the framework's own answers.")
@click.option("--trust", is_flag=True,
              help="Load a pickle that others could have written and run its code; load a skops file's own types.")
def command(source: str, output: Path, example: Path | None, opset: int | None, dynamic: bool | None, verify: bool,
            trust: bool) -> None:
    """Export SOURCE to ONNX: a skops, joblib or pickle file of a scikit-learn object, a .pt2 archive, a booster's file
    (XGBoost's .json and .ubj, LightGBM's .txt, CatBoost's .json), or module:object.

    The result runs against the framework before it is written; a difference is an error, and nothing is written.

    \b
    Example:
      gesher export model.skops -o model.onnx
      gesher export model.joblib --trust -o model.onnx
      gesher export program.pt2 -o model.onnx
      gesher export booster.ubj -o model.onnx
      gesher export mypackage.models:net --example x.npy -o net.onnx
    """
    import gesher
    from gesher.frontends.sources import read_example, read_source

    if not output.parent.is_dir():
        raise click.BadParameter(f"there is no folder '{output.parent}'", param_hint="-o")
    with working(f"reading {source}"):
        obj = read_source(source, trust=trust)
    with working(f"exporting {source}") as tell:
        tell("exporting and verifying" if verify else "exporting")
        model = gesher.export(obj, read_example(example), opset=opset, dynamic=dynamic, verify=verify)
    gesher.save(model, output)
    say(f"{output}  {human_bytes(output.stat().st_size)}, {len(model.graph)} nodes, " +
        ("verified against its source" if verify else "not verified"))
