"""The processor under us: what its vectors can do, and how many cores we may use.

An `Isa` is a set of instructions that code is built for; `Cpu.isa` is the widest one that this processor runs.
What a reader would guess wrong: the number of cores is what this process was given (affinity and container
limits), not what the machine has; and features come from the operating system, because a hypervisor may hide some.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ..base import knobs
from ..base.errors import UnsupportedError


@dataclass(frozen=True, slots=True)
class Isa:
    """Instructions to build for. `width` counts the float32 lanes of a vector; `march` is spelled for gcc and clang."""

    name: str
    arch: str
    width: int
    needs: frozenset[str]
    march: str
    zig: str

    def runs_on(self, cpu: Cpu) -> bool:
        return self.arch in (cpu.arch, "any") and self.needs <= cpu.features


_V3 = frozenset({"avx", "avx2", "fma", "f16c", "bmi1", "bmi2", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

# Widest first. The x86 levels are the psABI's v4, v3 and v1.
ISAS: tuple[Isa, ...] = (
    #    name       arch      lanes  needs                  gcc, clang             zig
    Isa("avx512",  "x86_64",  16,   _V4,                   "-march=x86-64-v4",    "-mcpu=x86_64_v4"),
    Isa("avx2",    "x86_64",   8,   _V3,                   "-march=x86-64-v3",    "-mcpu=x86_64_v3"),
    Isa("sse2",    "x86_64",   4,   frozenset({"sse2"}),   "-march=x86-64",       "-mcpu=x86_64"),
    Isa("neon",    "aarch64",  4,   frozenset({"asimd"}),  "-march=armv8-a",      "-mcpu=generic"),
    Isa("generic", "any",      4,   frozenset(),           "",                    "-mcpu=baseline"),
)


def isa(name: str) -> Isa:
    """The row of that name.

    Raises:
        UnsupportedError: no such row.
    """
    for row in ISAS:
        if row.name == name:
            return row
    raise UnsupportedError(f"there is no instruction set called {name!r}", who="compiler",
                           advice="one of " + ", ".join(row.name for row in ISAS))


@dataclass(frozen=True, slots=True)
class Cpu:
    """This processor."""

    arch: str
    model: str
    features: frozenset[str]

    @property
    def isa(self) -> Isa:
        """The widest instruction set that runs here."""
        return next(row for row in ISAS if row.runs_on(self))

    @property
    def key(self) -> str:
        """Short and stable: equal where code built with `-march=native` may be shared.

        The number of cores is left out on purpose: the same code serves any number of threads.
        """
        told = "\n".join([self.arch, self.model, *sorted(self.features)])
        return f"{self.isa.name}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"

    def isas(self) -> list[Isa]:
        """Every instruction set that this processor runs, widest first; `generic` only where nothing else does."""
        return [row for row in ISAS if row.runs_on(self) and row.arch != "any"] or [isa("generic")]


@functools.cache
def here() -> Cpu:
    """The processor that we run on.

    >>> here().isa in here().isas()
    True
    """
    arch = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    model, features = _identity(arch)
    return Cpu(arch, model, features)


def threads() -> int:
    """Threads for a session that was not told: `GESHER_THREADS`, else the cores this process may use."""
    return knobs.THREADS.number if knobs.THREADS.number > 0 else allowed_cores()


def allowed_cores() -> int:
    """The cores this process may use: affinity, then the quota of its control groups, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))
    return max(1, min(cores, math.ceil(quota))) if quota else max(1, cores)


def _cgroup_quota(membership: Path, root: Path) -> float | None:
    """The smallest CPU quota from our group up to the root, in cores; None without one."""
    found: list[float] = []
    for line in _read(membership).splitlines():
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        version2 = number == "0" and not controllers
        if not version2 and "cpu" not in controllers.split(","):
            continue
        base = root if version2 else root / controllers
        group = base / path.lstrip("/")
        # Inside a container the path may name a folder of the host; the root of the mount is then our own group.
        for folder in [group, *group.parents]:
            if version2:
                quota, period = [*_read(folder / "cpu.max").split(), "max", "max"][:2]
            else:
                quota, period = _read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip()
            if quota.isdigit() and period.isdigit() and int(period) > 0 and int(quota) > 0:
                found.append(int(quota) / int(period))
            if folder == base:
                break
    return min(found, default=None)


def _read(path: Path) -> str:
    """The text of a file of /proc or /sys; empty where it is missing or not ours to read, which says the same."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _identity(arch: str) -> tuple[str, frozenset[str]]:
    if sys.platform == "linux":
        fields: dict[str, str] = {}
        for line in _first_processor():
            name, _, value = line.partition(":")
            fields.setdefault(name.strip(), value.strip())
        names = ("vendor_id", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")
        model = " ".join(fields[name] for name in names if name in fields)
        features = frozenset((fields.get("flags") or fields.get("Features") or "").split())
    elif sys.platform == "darwin":
        model, features = _identity_darwin()
    else:
        # Windows tells no feature flags without native calls; the baseline of the architecture always runs.
        model, features = platform.processor(), frozenset()
    certain = {"x86_64": {"sse2"}, "aarch64": {"asimd"}}.get(arch, set())
    return model, features | certain


def _first_processor() -> list[str]:
    """The lines of /proc/cpuinfo about the first processor; each costs the kernel time, and there may be hundreds."""
    lines: list[str] = []
    with contextlib.suppress(OSError), open("/proc/cpuinfo", errors="replace") as told:
        for line in told:
            if not line.strip() and lines:
                break
            lines.append(line)
    return lines


def _identity_darwin() -> tuple[str, frozenset[str]]:
    asked = subprocess.run(["/usr/sbin/sysctl", "-a"], capture_output=True, text=True, check=False).stdout
    values = dict(re.findall(r"^((?:machdep\.cpu|hw\.optional)\S*): (.*)$", asked, re.MULTILINE))
    listed = " ".join(values.get(f"machdep.cpu.{part}", "") for part in ("features", "leaf7_features")).lower()
    # Apple writes AVX1.0 and AVX512F where Linux writes avx and avx512f.
    features = {"avx" if word == "avx1.0" else word for word in listed.split()}
    features |= {name.rsplit(".", 1)[1].lower() for name, value in values.items()
                 if name.startswith("hw.optional") and value == "1"}
    return values.get("machdep.cpu.brand_string", platform.processor()), frozenset(features)
