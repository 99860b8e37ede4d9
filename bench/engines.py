"""How fast is the compiled engine? Against ONNX Runtime and OpenVINO, each in a process of its own, interleaved.

    ./dev bench engines                                     all of it, on 1 and on 2 threads
    ./dev bench engines --models resnet50 --threads 1       one row, in seconds
    ./dev bench engines --kind int8,load --write            some kinds, and the table into bench/RESULTS.md
    ./dev bench engines --kind bf16                         products of bfloat16, against OpenVINO's
    ./dev bench engines --models resnet50 --hot 5           where compiled spends its time: its five slowest steps
    ./dev bench engines --list                              the models with their files (they are built first)

The ratio is our median over that of the faster rival. Rows are kept in the cache folder of the models, so that a table
can be written from several runs; each says when it was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import versions
from models import FREE, BenchModel, chosen, store
from racing import table
from racing.goals import ratio_of
from racing.loading import loading, new_shapes
from racing.timing import Timing, now, race, relative_error
from racing.work import flops_of, touched_bytes

from gesher.compiler import peak

KINDS = ("fp32", "int8", "trees", "small", "load", "memory", "compile", "dynamic", "kernels", "bf16")
# Whose kernels are told in the table.
TOLD = ("resnet50", "bert_base_128")
# What is raced with rounded products too.
ROUNDED = ("resnet50", "mobilenet_v2", "efficientnet_b0", "convnext_tiny", "vit_tiny", "bert_base_128", "minilm_32",
           "minilm_128", "gpt2_prefill_128", "gpt2_decode_512", "ppocr_det_640", "ppocr_rec_320", "gemm_1024",
           "conv1x1_256_56")
RACES = ("fp32", "int8", "trees", "small")
ENGINES = ("compiled", "onnxruntime", "openvino")
VERSIONED = ("onnxruntime", "openvino", "numpy", "ziglang", "torch", "scikit-learn")
HERE = Path(__file__).resolve().parent
# Beyond this the engines do not agree; int8 kernels round in their own places, and dynamic ones choose their scales.
LARGEST_ERROR = {"fp32": 1e-3, "small": 1e-4, "trees": 1e-2, "int8": 0.2}


def raced(model: BenchModel, engines: Sequence[str], threads: int, seconds: float) -> dict[str, Any]:
    """One row of the race."""
    feeds, path = model.feeds(), model.path()
    # Clocks change from minute to minute: what is held against the peak is held against that of its own minute.
    own_minute = model.group == "peak"
    before = peak.measure(threads) if own_minute else None
    found = race(path, feeds, engines, threads, seconds)
    peaks = peak.here(threads)
    if before is not None:
        peaks = replace(peaks, flops=(before.flops + peak.measure(threads).flops) / 2)
    medians = {e: t.median for e, t in found.items() if not t.failed}
    row: dict[str, Any] = {"figure": "race", "name": model.name, "kind": model.kind, "group": model.group,
                           "threads": threads, "medians": medians,
                           "undisturbed": {e: found[e].undisturbed for e in medians},
                           "runs": {e: len(found[e].runs) for e in medians}, "ratio": ratio_of(medians),
                           "failed": {e: shortened(t.failed) for e, t in found.items() if t.failed}, "measured": now()}
    row["clean_ratio"] = ratio_of(row["undisturbed"])
    if "compiled" in medians:
        ours, clean = medians["compiled"], row["undisturbed"]["compiled"]
        if "onnxruntime" in medians:
            row["of_onnxruntime"] = ours / medians["onnxruntime"]
        judge = next((e for e in ("onnxruntime", "openvino") if e in medians), None)
        if judge:
            row["error"] = relative_error(found["compiled"].outputs, found[judge].outputs)
        flops = flops_of(path, feeds)
        if flops:
            row["gflops"] = flops / clean / 1e9
            limit = peaks.int8 if model.kind == "int8" else peaks.flops
            row["of_peak"] = flops / clean / limit if limit else None
        row["of_bandwidth"] = touched_bytes(path, feeds, found["compiled"].outputs) / clean / peaks.bytes
    return row


def rounded(model: BenchModel, engines: Sequence[str], threads: int, seconds: float) -> dict[str, Any]:
    """One row of the race with products of bfloat16, which ONNX Runtime has none of here: it tells how far off the
    others are."""
    feeds, path = model.feeds(), model.path()
    found = race(path, feeds, [e for e in engines if e != "onnxruntime"], threads, seconds, precision="bf16")
    exact = race(path, feeds, ["onnxruntime"], threads, 0)["onnxruntime"].outputs
    alive: dict[str, Timing] = {e: t for e, t in found.items() if not t.failed}
    row: dict[str, Any] = {"figure": "bf16", "name": model.name, "kind": "bf16", "group": model.group,
                           "threads": threads, "medians": {e: t.median for e, t in alive.items()},
                           "undisturbed": {e: t.undisturbed for e, t in alive.items()},
                           "errors": {e: relative_error(t.outputs, exact) for e, t in alive.items()},
                           "failed": {e: shortened(t.failed) for e, t in found.items() if t.failed}, "measured": now()}
    row |= {"ratio": ratio_of(row["medians"]), "clean_ratio": ratio_of(row["undisturbed"])}
    flops, limit = flops_of(path, feeds), peak.here(threads).bf16
    if flops and "compiled" in alive:
        row["gflops"] = flops / row["undisturbed"]["compiled"] / 1e9
        row["of_peak"] = row["gflops"] * 1e9 / limit if limit else None
    return row


def shortened(why: str) -> str:
    """The end of a long error, where OpenVINO's chain of places comes to the point."""
    return why if len(why) <= 200 else f"{why[:60]} ... {why[-130:]}"


def tell(row: dict[str, Any]) -> None:
    """One line of a race for people."""
    times = "  ".join(f"{e} {table.human(row['medians'].get(e)) if e in row['medians'] else 'cannot':>9}"
                      for e in ENGINES if e in row["medians"] or e in row["failed"])
    error, limit = row.get("error"), LARGEST_ERROR[row["kind"]]
    peaks = "" if row.get("of_peak") is None else f"  {row['gflops']:.1f} GFLOP/s {100 * row['of_peak']:.0f} % of peak"
    wrong = "  DISAGREES" if error is not None and error > limit else ""
    ratio, clean = table.number(row["ratio"]), table.number(row["clean_ratio"])
    print(f"{row['name']:24} {row['threads']}t  {times}  ratio {ratio} (undisturbed {clean}){peaks}  "
          f"error {table.number(error, '.0e')}{wrong}", flush=True)
    for engine, why in row["failed"].items():
        print(f"    {engine}: {why}", flush=True)


def timed_steps(model: BenchModel, threads: int, seconds: float) -> list[Any]:
    """The steps of the compiled model with their times."""
    import gesher
    from gesher.cli.profiling import profiled

    session = profiled(gesher.load(model.path()), model.feeds(), threads, seconds)
    try:
        return [t for p in session.profiles() for t in p.steps()]
    finally:
        session.close()


def kernels(model: BenchModel, threads: int, seconds: float) -> dict[str, Any]:
    """The kernels of the compiled model taken together, with their part of the time and of the peak."""
    from gesher.compiler.profile import by_kernel

    steps, limit = timed_steps(model, threads, seconds), peak.here(threads).flops
    whole = sum(t.seconds for t in steps)
    return {"figure": "kernels", "name": model.name, "kind": model.kind, "group": model.group, "threads": threads,
            "measured": now(), "kernels": [
                {"kernel": name, "steps": n, "seconds": seconds, "part": seconds / whole,
                 "of_peak": flops / seconds / limit if flops else None}
                for name, n, seconds, flops in by_kernel(steps)]}


def hot(model: BenchModel, threads: int, seconds: float, count: int) -> None:
    """The slowest steps of the compiled model with their rates, and its kernels taken together."""
    from gesher.compiler.profile import by_kernel

    steps, limits = timed_steps(model, threads, seconds), peak.here(threads)
    whole = sum(t.seconds for t in steps)
    print(f"\n{model.name}, {threads} thread{'s' * (threads > 1)}: {table.human(whole)} in {len(steps)} steps")
    print("  " + "; ".join(f"{name} {n}x {100 * seconds / whole:.0f} %"
                           for name, n, seconds, _ in by_kernel(steps)[:8]))
    for t in sorted(steps, key=lambda t: -t.seconds)[:count]:
        arithmetic, memory = t.of_peak(limits)
        rates = [f"{value:.1f} {unit} ({100 * part:.0f} % of peak)" for value, unit, part in
                 ((t.gflops, "GFLOP/s", arithmetic), (t.gbytes, "GB/s", memory))
                 if value is not None and part is not None]
        print(f"  {table.human(t.seconds):>8} {100 * t.seconds / whole:4.1f} %  {', '.join(rates)}: "
              f"{t.work.text(t.sizes)[:240]}", flush=True)


def kept(rows: Sequence[dict[str, Any]] = ()) -> list[dict[str, Any]]:
    """The rows of this and earlier runs, the newest of each, in the order of the models."""
    path = store.folder() / "rows.json"
    found = json.loads(path.read_text()) if path.exists() else []

    def key(r: dict[str, Any]) -> tuple[Any, ...]:
        return r["figure"], r["name"], r["threads"], r.get("sizes")
    merged = {key(r): r for r in [*found, *rows]}
    order = {m.name: i for i, m in enumerate(chosen())}
    result = sorted(merged.values(), key=lambda r: (r["figure"], r["threads"], order.get(r["name"], len(order))))
    if rows:
        path.write_text(json.dumps(result, indent=1))
    return result


def machine(rows: Sequence[dict[str, Any]], threads: Sequence[int]) -> list[str]:
    """What was measured on, when, and how busy the machine was with other work, for the table."""
    name = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                 if line.startswith("model name")), "unknown processor")
    peaks = "; ".join(f"{p.threads} thread{'s' * (p.threads > 1)}: {p.flops / 1e9:.0f} GFLOP/s, int8 "
                      f"{p.int8 / 1e9:.0f} GOP/s, bf16 {p.bf16 / 1e9:.0f} GFLOP/s, {p.bytes / 1e9:.1f} GB/s"
                      for p in map(peak.here, threads))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True,
                            check=False).stdout.strip()
    times, busy = sorted(r["measured"] for r in rows), os.getloadavg()[2]
    when = f"- rows measured {times[0]} to {times[-1]} UTC; " if times else "- "
    return [f"{when}load average {busy:.1f} on {os.cpu_count()} cores" +
            (": others were at work, so trust the undisturbed ratios more" if busy > (os.cpu_count() or 1) else ""),
            f"- {name}, {os.cpu_count()} cores; measured peaks: {peaks}",
            f"- Python {sys.version.split()[0]}, {versions(*VERSIONED)}; commit {commit or 'unknown'}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="*", metavar="GLOB", help="comma-separated patterns of model names")
    parser.add_argument("--kind", default="", help=f"comma-separated, of {' '.join(KINDS)} (all)")
    parser.add_argument("--engines", default=",".join(ENGINES))
    parser.add_argument("--threads", default="1,2", help="comma-separated")
    parser.add_argument("--seconds", type=float, default=1.5, help="of running, for each engine and row")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--write", action="store_true", help="write the table into bench/RESULTS.md")
    parser.add_argument("--list", action="store_true", help="build the models, print their files, and end")
    parser.add_argument("--hot", type=int, metavar="N", help="print the N slowest steps of each model instead")
    given = parser.parse_args()
    kinds = tuple(k for k in given.kind.split(",") if k) or KINDS
    if unknown := set(kinds) - set(KINDS):
        raise SystemExit(f"no kind {', '.join(sorted(unknown))}; there are {' '.join(KINDS)}")
    models = chosen(given.models, tuple(k for k in kinds if k in RACES))
    if given.list:
        for m in models:
            print(f"{m.name:24} {m.kind:6} {m.group:12} {m.path()}", flush=True)
        return
    available = len(os.sched_getaffinity(0))
    threads = [t for t in map(int, given.threads.split(",")) if t <= available]
    if given.hot:
        for t in threads:
            for m in models:
                hot(m, t, given.seconds, given.hot)
        return
    engines = given.engines.split(",")
    rows: list[dict[str, Any]] = []
    if set(kinds) & set(RACES):
        for t in threads:
            for m in models:
                rows.append(raced(m, engines, t, given.seconds))
                tell(rows[-1])
    if set(kinds) & {"load", "memory", "compile"}:
        for m in (m for m in chosen(given.models) if m.kind in ("fp32", "small") and m.group != "peak"):
            rows.append({"figure": "load", "measured": now(), **loading(m, 1)})
            print(json.dumps(rows[-1]), flush=True)
    if "dynamic" in kinds:
        for free in (f for f in FREE if f.model in chosen(given.models) or given.models == "*"
                     or f.model.name in given.models.split(",")):
            found = [{"figure": "dynamic", "measured": now(), **r} for r in new_shapes(free, 1, given.seconds)]
            rows += found
            for r in found:
                print(json.dumps(r), flush=True)
    if "kernels" in kinds:
        for m in (m for m in chosen(given.models) if m.name in TOLD or given.models != "*"):
            rows += [kernels(m, t, given.seconds) for t in threads]
            print(json.dumps(rows[-1]), flush=True)
    if "bf16" in kinds:
        for t in threads:
            for m in (m for m in chosen(given.models) if m.name in ROUNDED):
                rows.append(rounded(m, engines, t, given.seconds))
                print(" | ".join(table.bf16_cells(rows[-1])), flush=True)
    whole = kept(rows)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))
    for t in threads:
        if these := [r for r in rows if r["figure"] == "race" and r["threads"] == t]:
            print(f"\n{t} thread{'s' * (t > 1)}\n{table.means(these)}")
    if given.write:
        table.put(HERE / "RESULTS.md", table.section(whole, machine(whole, threads)))


if __name__ == "__main__":
    main()
