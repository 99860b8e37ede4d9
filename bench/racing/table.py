"""The table of the race as Markdown: every row won or lost, means by group, goals, versions and machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .goals import DYNAMIC_GOALS, LOAD_GOALS, RACE_GOALS, Goal, geometric_mean

BEGIN, END = "<!-- engines: begin -->", "<!-- engines: end -->"
Row = Mapping[str, Any]


def human(seconds: float | None) -> str:
    """Seconds with three figures and a unit.

    >>> human(0.0123), human(None)
    ('12.3 ms', '-')
    """
    if seconds is None or seconds != seconds:
        return "-"
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            value = seconds / scale
            return f"{value:.{max(0, 2 - len(str(int(value))) + 1)}f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def number(value: float | None, form: str = ".2f") -> str:
    return "-" if value is None else f"{value:{form}}"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns `right` are set to the right."""
    rule = "|".join(["---:" if i in right else "---" for i in range(len(head))])
    return "\n".join(["| " + " | ".join(head) + " |", f"|{rule}|",
                      *("| " + " | ".join(str(c).replace("|", "\\|") for c in r) + " |" for r in rows)])


def verdict(ratio: float | None) -> str:
    return "-" if ratio is None else "won" if ratio < 1 else "**lost**"


def race_table(rows: Sequence[Row]) -> str:
    """The rows of one number of threads."""
    def line(r: Row) -> list[str]:
        medians, failed = r["medians"], r["failed"]
        times = [human(medians.get(e)) if e not in failed else "cannot" for e in
                 ("compiled", "onnxruntime", "openvino")]
        return [r["name"], *times, number(r.get("ratio")), number(r.get("clean_ratio")), verdict(r.get("ratio")),
                number(r.get("gflops"), ".1f"),
                "-" if r.get("of_peak") is None else f"{100 * r['of_peak']:.0f} %",
                # A forest reads a path of each tree, not the file.
                "-" if r.get("of_bandwidth") is None or r["kind"] == "trees" else f"{100 * r['of_bandwidth']:.0f} %",
                number(r.get("error"), ".0e")]
    return markdown(["model", "compiled", "ONNX Runtime", "OpenVINO", "ratio", "undisturbed", "", "GFLOP/s",
                     "of FMA peak", "of bandwidth", "error"], map(line, rows), right=(1, 2, 3, 4, 5, 7, 8, 9, 10))


def bf16_cells(r: Row) -> list[str]:
    """A row of the race with products of bfloat16."""
    def of(engine: str, values: str) -> str:
        if engine in r["failed"]:
            return "cannot"
        return human(r[values].get(engine)) if values == "medians" else number(r[values].get(engine), ".1e")
    return [r["name"], of("compiled", "medians"), of("openvino", "medians"), number(r.get("ratio")),
            number(r.get("clean_ratio")), verdict(r.get("clean_ratio")), number(r.get("gflops"), ".1f"),
            "-" if r.get("of_peak") is None else f"{100 * r['of_peak']:.0f} %", of("compiled", "errors"),
            of("openvino", "errors")]


def bf16_table(rows: Sequence[Row]) -> str:
    return markdown(["model", "compiled", "OpenVINO", "ratio", "undisturbed", "", "GFLOP/s", "of bf16 peak", "error",
                     "OpenVINO's error"], map(bf16_cells, rows), right=(1, 2, 3, 4, 6, 7, 8, 9))


def load_table(rows: Sequence[Row]) -> str:
    def line(r: Row) -> list[str]:
        cold = [r["name"], human(r.get("compile_s")), human(r.get("compile_cpu_s"))]
        if "load_ratio" not in r:
            return [*cold, *["-"] * 7]
        return [*cold, human(r["compiled_load_s"]), human(r["onnxruntime_load_s"]), number(r["load_ratio"]),
                number(r.get("clean_load_ratio")), f"{r['compiled_mb']:.0f} MB", f"{r['onnxruntime_mb']:.0f} MB",
                number(r["memory_ratio"])]
    return markdown(["model", "cold compile", "its processor time", "second load", "ONNX Runtime's load", "ratio",
                     "undisturbed", "peak memory", "ONNX Runtime's", "ratio"], map(line, rows), right=range(1, 10))


def dynamic_table(rows: Sequence[Row]) -> str:
    def line(r: Row) -> list[str]:
        return [r["name"], r["sizes"], human(r.get("free_s")), human(r.get("fixed_s")), number(r.get("ratio")),
                human(r.get("first_s")), str(r.get("compiled_again", "-"))]
    return markdown(["model", "sizes", "free", "specialised", "ratio", "first run there", "libraries made"],
                    map(line, rows), right=(2, 3, 4, 5, 6))


def kernels_table(rows: Sequence[Row]) -> str:
    lines = [[r["name"], str(r["threads"]), k["kernel"], str(k["steps"]), human(k["seconds"]),
              f"{100 * k['part']:.1f} %", "-" if k["of_peak"] is None else f"{100 * k['of_peak']:.0f} %"]
             for r in rows for k in r["kernels"]]
    return markdown(["model", "threads", "kernel", "steps", "time", "part", "of FMA peak"], lines, right=range(3, 7))


def goals_table(goals: Sequence[Goal], rows: Sequence[Row]) -> str:
    def line(g: Goal) -> list[str]:
        value = g.value(rows)
        bound = "≥" if g.how == "least" else "≤"
        told = "not measured" if value is None else "aim reached" if g.aimed(value) else \
            "reached" if g.reached(value) else "**missed**"
        return [g.figure, number(value), f"{bound} {g.must:g}", f"{bound} {g.aim:g}", told]
    return markdown(["figure", "value", "must", "aim", ""], map(line, goals), right=(1, 2, 3))


def means(rows: Sequence[Row]) -> str:
    """The geometric mean of the ratios of each kind and group."""
    lines = []
    for kind in dict.fromkeys(r["kind"] for r in rows):
        of_kind = [r for r in rows if r["kind"] == kind and r.get("ratio") is not None]
        for group in (None, *dict.fromkeys(r["group"] for r in of_kind)):
            found = [r for r in of_kind if group in (None, r["group"])]
            mean, clean = (geometric_mean(r[f] for r in found) for f in ("ratio", "clean_ratio"))
            if group is None or group != kind:
                lines.append([kind if group is None else f"{kind}: {group}", str(len(found)), number(mean),
                              number(clean), f"{sum(r['ratio'] < 1 for r in found)} won"])
    return markdown(["group", "rows", "geometric mean", "undisturbed", ""], lines, right=(1, 2, 3))


def section(rows: Sequence[Row], machine: Sequence[str]) -> str:
    """The whole section, between its markers."""
    parts = [BEGIN, "## The engines, raced", "",
             "Written by `./dev bench engines --write`. Each engine in a process of its own with the same number of "
             "threads, pinned to as many cores; runs interleaved; ratio = median of compiled over the median of the "
             "faster rival, both at f32 where the model is (below 1: won). Undisturbed is the same ratio by what a "
             "quieter machine would show: on one thread processor time instead of the clock, on several the 5th "
             "percentile. GFLOP/s count products as the definition has "
             "them, so fewer multiplications (Winograd) can pass 100 % of the peak. Bandwidth counts the model file, "
             "inputs and outputs once a run. Error: relative L2 to ONNX Runtime.", "", *machine, ""]
    race = [r for r in rows if r["figure"] == "race"]
    for threads in sorted({r["threads"] for r in race}):
        these = [r for r in race if r["threads"] == threads]
        parts += [f"### {threads} thread{'s' * (threads > 1)}", "", race_table(these), ""]
        failed = [f"- {r['name']} on {e}: {why}" for r in these for e, why in r["failed"].items()]
        if failed:
            parts += ["What could not run:", "", *failed, ""]
        parts += [means(these), "", goals_table(RACE_GOALS, these), ""]
    if any(r["figure"] == "bf16" for r in rows):
        parts += ["### Products of bfloat16 (precision=\"bf16\")", "",
                  "Both engines told to round what products multiply; errors: relative L2 to ONNX Runtime at float32.",
                  ""]
    for threads in sorted({r["threads"] for r in rows if r["figure"] == "bf16"}):
        these = [r for r in rows if r["figure"] == "bf16" and r["threads"] == threads]
        parts += [f"{threads} thread{'s' * (threads > 1)}:", "", bf16_table(these), "", means(these), ""]
    for figure, title, table, goals in (("load", "Loading and memory", load_table, LOAD_GOALS),
                                        ("dynamic", "New shapes", dynamic_table, DYNAMIC_GOALS)):
        these = [r for r in rows if r["figure"] == figure]
        if these:
            parts += [f"### {title}", "", table(these), "", goals_table(goals, these), ""]
            parts += [f"- {r['name']}: {r['failed']}" for r in these if r.get("failed")]
    if these := [r for r in rows if r["figure"] == "kernels"]:
        parts += ["### Kernels", "", kernels_table(these), ""]
    return "\n".join([*parts, END]) + "\n"


def put(path: Path, text: str) -> None:
    """Write a section into a file, in place of what stood between its markers, else at the end."""
    before = path.read_text(encoding="utf-8") if path.exists() else "# Results\n\n"
    if BEGIN in before and END in before:
        head, _, rest = before.partition(BEGIN)
        _, _, tail = rest.partition(END)
        path.write_text(head + text.rstrip("\n") + tail, encoding="utf-8")
    else:
        path.write_text(before.rstrip("\n") + "\n\n" + text, encoding="utf-8")
