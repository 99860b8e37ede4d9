"""How long PyTorch's models take to cross, how many nodes come out, and how much memory it takes.

    python bench/torch_export.py [--only NAME ...] [--kind KIND ...] [--mode static|dynamic] [--rounds 3] [--json FILE]
    python bench/torch_export.py --memory

Each architecture of `architecture_zoo/` is exported by us (verification excluded, as it is not the rival's work) and by
`torch.onnx.export(dynamo=True)`, whose optimiser runs by default; in processes of their own that are forked behind the
imports and a first small export, turn about, and the least processor seconds of several rounds count. `--memory`
exports a Llama of 440 million parameters and tells the peak above its weights.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import inspect
import io
import logging
import os
import pickle
import re
import resource
import signal
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sections
import torch
from architecture_zoo import Case, architectures

import gesher
from gesher.frontends.torch.arguments import leaves, rebuilt, result_names
from gesher.frontends.torch.dims import asked, resized, seen_sizes

# Processor seconds after which an export is given up.
PATIENCE = 300


@dataclass(frozen=True, slots=True)
class Run:
    """One export: processor seconds and nodes, or why there is none."""

    seconds: float = 0.0
    nodes: int = 0
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One architecture in one mode, by both exporters."""

    name: str
    mode: str
    ours: Run
    rival: Run

    @property
    def both(self) -> bool:
        return not self.ours.failed and not self.rival.failed

    @property
    def time_ratio(self) -> float:
        return self.ours.seconds / self.rival.seconds

    @property
    def node_ratio(self) -> float:
        return self.ours.nodes / self.rival.nodes


def by_us(case: Case, dynamic: bool) -> int:
    settings = {k: v for k, v in case.settings.items() if k != "settings"}
    own = case.settings.get("settings", {}) if dynamic else {}    # which are about free dims
    model = gesher.export(case.module, case.example, dynamic=case.dynamic if dynamic else None, verify=False,
                          **settings, **own)
    return _count(model)


def _count(model: gesher.Model) -> int:
    """Nodes of the graph and of all graphs inside it."""
    pending, n = [model.graph, *model.functions.values()], 0
    while pending:
        for node in pending.pop().nodes:
            n += 1
            pending.extend(node.subgraphs())
    return n


class Flat(torch.nn.Module):
    """A module with tensors alone for arguments and results, so that the rival need not know the classes between
    (caches, outputs): PyTorch refuses those that nobody registered with it."""

    def __init__(self, case: Case):
        super().__init__()
        self.module = case.module
        self._call = case.example

    def forward(self, *tensors: torch.Tensor) -> Any:
        call = rebuilt(self._call, iter(tensors))
        given = self.module(**call) if isinstance(call, dict) else self.module(*call)
        return tuple(x for _, x in result_names(given))


def by_torch(case: Case, dynamic: bool) -> int:
    """The rival, asked as its documentation says: free dims by name. As it takes a size of 1 for fixed, its example has
    none."""
    names = inspect.signature(case.module.forward).parameters
    example = case.example if isinstance(case.example, dict) else dict(zip(names, case.example))
    flat = leaves(example)
    free = asked(flat, case.dynamic if dynamic else None)
    tensors = resized(flat, free, seen_sizes(free))
    names_of = [{axis: re.sub(r"\W+", "_", str(size)) for (j, axis), size in free.sizes.items() if j == i}
                for i in range(len(flat))]
    shapes: list[Any] = [named or None for named in names_of]
    with contextlib.redirect_stdout(io.StringIO()):
        made = torch.onnx.export(Flat(case), tuple(tensors), dynamo=True, input_names=[n for n, _ in flat],
                                 dynamic_shapes=(tuple(shapes),) if free.sizes else None, verbose=False)
    assert made is not None
    return sum(1 for _ in made.model.graph.all_nodes())


def forked(work: Callable[[], Run]) -> Run:
    """What `work` gives in a process of its own."""
    with tempfile.TemporaryFile() as answer:
        child = os.fork()
        if not child:
            used = int(time.process_time())
            resource.setrlimit(resource.RLIMIT_CPU, (used + PATIENCE, used + PATIENCE))
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), 2)
                answer.write(pickle.dumps(work()))
                answer.flush()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL):
            return Run(failed=f"not done after {PATIENCE} s")
        answer.seek(0)
        told = answer.read()
        return pickle.loads(told) if told else Run(failed="the process died")


def exported(name: str, dynamic: bool, exporter: Callable[[Case, bool], int]) -> Run:
    """One export, in a process of its own; building the module is not counted."""
    def work() -> Run:
        try:
            case = architectures()[name].case()
            gc.collect()
            start = time.process_time()
            nodes = exporter(case, dynamic)
            return Run(time.process_time() - start, nodes)
        except Exception as e:
            return Run(failed=f"{type(e).__name__}: {' '.join(str(e).split())[:200]}")

    return forked(work)


def best(runs: list[Run]) -> Run:
    """The quickest; a failure where there is one."""
    return next((r for r in runs if r.failed), min(runs, key=lambda r: r.seconds))


def measured(name: str, mode: str, rounds: int) -> Row:
    """Both exporters, turn about. Who fails once is not asked again."""
    ours: list[Run] = []
    rival: list[Run] = []
    for _ in range(rounds):
        for runs, exporter in ((ours, by_us), (rival, by_torch)):
            if not runs or not runs[-1].failed:
                runs.append(exported(name, mode == "dynamic", exporter))
    return Row(name, mode, best(ours), best(rival))


def warm() -> None:
    """Import all that either imports late."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU()).eval()
    case = Case(net, {"input": torch.randn(2, 1, 8, 8)}, {"input": {0: "batch"}})
    for exporter in (by_us, by_torch):
        exporter(case, True)


def memory() -> str:
    """Peak memory above the weights while a Llama of 440 million parameters is exported, and saved, in words."""
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(vocab_size=32000, hidden_size=1280, intermediate_size=3456,
                                         num_hidden_layers=18, num_attention_heads=20, num_key_value_heads=20,
                                         tie_word_embeddings=False)).eval()
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    told = [f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f} million parameters of a Llama, "
            f"{weights / 1e6:.0f} MB, exported with free batch and sequence:"]
    warm()
    ids = torch.randint(0, 32000, (2, 16))
    free = {0: "batch", 1: "sequence"}

    def ours() -> Run:
        with tempfile.TemporaryDirectory() as folder:
            before = _resident("VmRSS")
            made = gesher.export(model, {"input_ids": ids, "use_cache": False}, dynamic={"input_ids": free},
                                 verify=False)
            peak = _resident("VmHWM") - before
            gesher.save(made, Path(folder) / "llama.onnx")
            return Run(peak, _resident("VmHWM") - before)

    def rival() -> Run:
        before = _resident("VmRSS")
        case = Case(model, {"input_ids": ids, "use_cache": False}, {"input_ids": free})
        by_torch(case, True)
        return Run(_resident("VmHWM") - before, 0)

    allowed = 0.05 * weights / 1e6 + 150
    found = forked(ours)
    told.append(found.failed or f"gesher: {found.seconds:.0f} MB above the weights, {found.nodes:.0f} MB with saving; "
                                f"allowed are {allowed:.0f} MB")
    found = forked(rival)
    told.append(found.failed or f"torch.onnx.export: {found.seconds:.0f} MB")
    return "\n".join(told)


def _resident(field: str) -> int:
    """Memory of this process as Linux tells it, in MB: `VmRSS` now, `VmHWM` at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    raise RuntimeError(f"this system does not tell {field}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[], help="names of architectures")
    parser.add_argument("--kind", nargs="*", default=[], help="kinds of architectures")
    parser.add_argument("--mode", choices=("static", "dynamic"), default="dynamic")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="the peak for a large Llama instead")
    parser.add_argument("--json", type=Path, help="a file for the rows; those of earlier runs in it stay")
    parser.add_argument("--write", action="store_true", help="write all rows into RESULTS.md")
    given = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    if given.memory:
        told = memory()
        print(told)
        if given.write:
            sections.put("torch_export_memory", _memory_section(told))
        return 0
    warm()
    rows: list[Row] = []
    print(f"{'architecture':30} {'seconds':>8} {'rival':>8} {'ratio':>6} {'nodes':>6} {'rival':>6} {'ratio':>6}")
    for name, a in architectures().items():
        if (given.only and name not in given.only) or (given.kind and a.kind not in given.kind):
            continue
        row = measured(name, given.mode, given.rounds)
        rows.append(row)
        if given.json:    # at once: a run may be broken off
            sections.kept(given.json, [asdict(row)])
        shown = f"{row.time_ratio:6.2f} {row.ours.nodes:6} {row.rival.nodes:6} {row.node_ratio:6.2f}" if row.both else \
            f"ours: {row.ours.failed or row.ours.nodes}; rival: {row.rival.failed or row.rival.nodes}"
        print(f"{name:30} {row.ours.seconds:8.2f} {row.rival.seconds:8.2f} {shown}", flush=True)
    _sum_up([r for r in rows if r.both])
    rows_now = sections.kept(given.json, map(asdict, rows))
    if given.write:
        sections.put("torch_export", _section([Row(r["name"], r["mode"], Run(**r["ours"]), Run(**r["rival"]))
                                               for r in rows_now]))
    return 0


def _section(rows: list[Row]) -> str:
    """The table for `RESULTS.md`."""
    lines = ["## Exports against torch.onnx.export", "",
             f"`./dev bench torch_export --write`: PyTorch {torch.__version__.split('+')[0]}; processor seconds of the "
             "export, ours without verification, and nodes, the rival's optimised (`dynamo=True`). Ratios below 1 are "
             "ours."]
    for mode in ("static", "dynamic"):
        of = [r for r in rows if r.mode == mode]
        both = [r for r in of if r.both]
        if not both:
            continue
        ours, rival = sum(r.ours.seconds for r in both), sum(r.rival.seconds for r in both)
        lines += ["", f"### {mode}", "",
                  f"{len(both)} that both export: seconds {ours / rival:.2f} together, "
                  f"{statistics.median(r.time_ratio for r in both):.2f} at the median; nodes "
                  f"{statistics.median(r.node_ratio for r in both):.2f} at the median, "
                  f"{max(r.node_ratio for r in both):.2f} at the worst. "
                  f"Only we export {sum(bool(r.rival.failed) and not r.ours.failed for r in of)}, only the rival "
                  f"{sum(bool(r.ours.failed) and not r.rival.failed for r in of)}.", "",
                  "| architecture | seconds | rival | ratio | nodes | rival | ratio |",
                  "|---|---:|---:|---:|---:|---:|---:|"]
        for r in of:
            told = (f"{r.ours.seconds:.2f} | {r.rival.seconds:.2f} | {r.time_ratio:.2f} | {r.ours.nodes} | "
                    f"{r.rival.nodes} | {r.node_ratio:.2f}") if r.both else \
                f"{_shown(r.ours)} | {_shown(r.rival)} | - | {r.ours.nodes or '-'} | {r.rival.nodes or '-'} | -"
            lines.append(f"| {r.name} | {told} |")
    return "\n".join(lines)


def _memory_section(told: str) -> str:
    first, *rest = told.splitlines()
    return "\n".join(["## Memory of an export", "", "`./dev bench torch_export --memory --write`", "", first, "",
                      *(f"- {line}" for line in rest)])


def _shown(run: Run) -> str:
    return f"{run.seconds:.2f}" if not run.failed else "cannot"


def _sum_up(both: list[Row]) -> None:
    if not both:
        return
    ours, rival = sum(r.ours.seconds for r in both), sum(r.rival.seconds for r in both)
    print(f"\n{len(both)} that both export: seconds {ours:.1f} of {rival:.1f}, ratio {ours / rival:.2f} together, "
          f"{statistics.median(r.time_ratio for r in both):.2f} at the median; nodes "
          f"{statistics.median(r.node_ratio for r in both):.2f} at the median, "
          f"{max(r.node_ratio for r in both):.2f} at the worst")


if __name__ == "__main__":
    sys.exit(main())
