"""One engine with one model in a process of its own: loads, says what that took, and runs as often as it is told.

Started by `timing.Worker` with its task as JSON and a pipe's number. Each engine is called as its own users call it,
with nothing of ours around the rivals.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

Run = Callable[[dict[str, Any]], list[Any]]
Load = Callable[[], Run]


def compiled(path: str, threads: int, precision: str) -> Load:
    import gesher
    import gesher.compiler.session
    import gesher.engines.compiled  # imported before the clock starts, as the rivals are

    def load() -> Run:
        session = gesher.session(path, "compiled", threads=threads, precision=precision)
        return lambda feeds: list(session.run(feeds).values())
    return load


def onnxruntime(path: str, threads: int, precision: str) -> Load:
    import onnxruntime as ort

    def load() -> Run:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 4
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda feeds: session.run(None, feeds)
    return load


def openvino(path: str, threads: int, precision: str) -> Load:
    import openvino as ov

    def load() -> Run:
        core = ov.Core()
        model = core.compile_model(core.read_model(path), "CPU", {
            "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads})
        request = model.create_infer_request()
        # By place: names of outputs may be lost. Inputs that nothing reads are dropped.
        ports = {port: port.get_node().get_friendly_name() for port in model.inputs}

        def run(feeds: dict[str, Any]) -> list[Any]:
            found = request.infer({port: feeds[name] for port, name in ports.items()}, share_inputs=True,
                                  share_outputs=True)
            return list(found.values())
        return run
    return load


ENGINES = {"compiled": compiled, "onnxruntime": onnxruntime, "openvino": openvino}


def memory() -> tuple[float, float]:
    """Megabytes of this process now and at the most."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return tuple(int(told[k].split()[0]) / 1024 for k in ("VmRSS", "VmHWM"))


def cpu_seconds() -> float:
    """Seconds of the processor that this process and its ended children (compilers) took."""
    told = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(t.ru_utime + t.ru_stime for t in told)


def read_feeds(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as held:
        return {k: held[k] for k in held.files}


def serve(pipe: Connection, task: dict[str, Any]) -> None:
    """Answer the parent's commands until it says None: ("run", count) and ("feed", path) and ("outputs",)."""
    os.sched_setaffinity(0, task["cpus"])
    feeds = read_feeds(task["feeds"])
    before, _ = memory()
    started = time.perf_counter()
    load = ENGINES[task["engine"]](task["model"], task["threads"], task["precision"])
    imported, cpu = time.perf_counter(), cpu_seconds()
    run = load()
    loaded, cpu_loaded = time.perf_counter(), cpu_seconds()
    run(feeds)
    first, cpu_first = time.perf_counter(), cpu_seconds()
    outputs = [np.array(y) for y in run(feeds)]
    pipe.send({"import_s": imported - started, "load_s": loaded - imported, "first_s": first - loaded,
               "load_cpu_s": cpu_loaded - cpu, "first_cpu_s": cpu_first - cpu_loaded,
               "before_mb": before, "peak_mb": memory()[1], "outputs": [y for y in outputs if y.dtype.kind in "fiub"]})
    clock = time.perf_counter
    while (command := pipe.recv()) is not None:
        if command[0] == "feed":
            feeds = read_feeds(command[1])
            start = clock()
            run(feeds)
            pipe.send(clock() - start)
            continue
        times = []
        before_cpu = time.process_time()
        for _ in range(command[1]):
            start = clock()
            run(feeds)
            times.append(clock() - start)
        pipe.send((times, (time.process_time() - before_cpu) / command[1]))


def main() -> None:
    pipe = Connection(int(sys.argv[2]))
    try:
        serve(pipe, json.loads(sys.argv[1]))
    except EOFError:
        return
    except Exception as e:
        pipe.send({"failed": f"{type(e).__name__}: {' '.join(str(e).split())[:600]}"})


if __name__ == "__main__":
    main()
