"""What `gesher show --engine compiled` and `gesher bench --profile` share: a compiled model's steps, timed or not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .console import human_time, say, table

if TYPE_CHECKING:
    from gesher.compiler.peak import Peak
    from gesher.compiler.profile import Profile, Timed
    from gesher.compiler.session import CompiledSession
    from gesher.ir import Model


def profiled(model: Model, feeds: Mapping[str, Any], threads: int, seconds: float,
             precision: str = "f32") -> CompiledSession:
    """A session of `model` whose steps were timed for about `seconds`, at least ten runs, warm ones before.

    The caller closes it.
    """
    from gesher.engines.compiled import compiled

    session = compiled(model, threads=threads, timed=True, precision=precision)
    for _ in range(2):
        session.run(feeds)
    profiles = session.profiles()
    for p in profiles:
        p.reset()
    end = time.perf_counter() + seconds
    runs = 0
    while runs < 10 or (time.perf_counter() < end and runs < 10_000):
        session.run(feeds)
        runs += 1
        for p in session.profiles():
            p.sample()
    return session


def print_profile(profiles: list[Profile], peak: Peak) -> None:
    """Each segment's steps with time and rates, and then the kernels taken together."""
    from gesher.compiler.profile import by_kernel

    for p in profiles:
        if text := p.text(peak):
            say(text)
            say()
    steps = [t for p in profiles for t in p.steps()]
    whole = sum(t.seconds for t in steps)
    table(["kernel", "steps", "time", "%", "GFLOP/s"],
          [(name, str(n), human_time(seconds), f"{100 * seconds / whole:.1f}",
            f"{flops / seconds / 1e9:.1f}" if flops and seconds else "-")
           for name, n, seconds, flops in by_kernel(steps)], right=(1, 2, 3, 4))


def as_data(profiles: list[Profile], peak: Peak) -> dict[str, Any]:
    """The same for programs."""
    return {"threads": peak.threads, "peak_gflops": peak.flops / 1e9, "peak_gbytes": peak.bytes / 1e9,
            "segments": [{"title": p.title, "runs": p.count(), "steps": [step_data(t, peak) for t in p.steps()]}
                         for p in profiles]}


def step_data(t: Timed, peak: Peak) -> dict[str, Any]:
    arithmetic, memory = t.of_peak(peak)
    w = t.work
    return {"kind": w.kind, "what": w.what, "comment": w.comment, "shapes": w.shapes(t.sizes), "turns": t.turns,
            "seconds": t.seconds, "flops": t.flops or None, "bytes": t.bytes or None, "gflops": t.gflops,
            "gbytes": t.gbytes, "of_flop_peak": arithmetic, "of_memory_peak": memory}


def page_of(session: CompiledSession, title: str, facts: list[str], peak: Peak | None) -> str:
    """The page of a session; with times where it is timed and has run."""
    from gesher.compiler.explain import left, segments
    from gesher.compiler.work import works

    from .page import Part, page

    timed = {id(p.program): p.steps() for p in session.profiles()}
    parts = [Part(name, works(program), timed.get(id(program), []), sizes)
             for name, program, sizes in segments(session)]
    return page(title, facts, parts, peak, left(session))
