"""Finding a C compiler that really works here, and building shared libraries with it.

Looked for, in this order: `GESHER_CC`; the `ziglang` package, a complete and recent clang with headers that needs
nothing on the machine; `clang`, `cc`, `gcc` on the PATH. Each is tried on a small program, because an installed `cc`
without headers or linker is common; why one was passed over is kept and told by `missing()`.

The order was measured (zig 0.17 with clang 22 against gcc 12 on one Zen 5, five alternated runs, medians): matrix
products within 1.5 % of each other, gcc mostly ahead; gelu, tanh, sigmoid 5 to 10 % faster with clang, exp, log and
sums equal, casts to int64 5 % slower; a loop with `fmaxf` four times faster, because gcc calls the function and
leaves the loop scalar. Other processors and compilers were not measured.

What a reader would guess wrong:

- zig's own link step builds a C library first (seconds to a minute). We need none: the process that loads our code has
  libc and libm in it already, so the library is linked with its symbols open, and the loader closes them.
- zig reads the machine's headers when it builds for the machine itself; naming the target makes it use its own,
  and `-nostdlib` while compiling would hide those too.
- zig spells the x86 levels `x86_64_v3`, gcc and clang `x86-64-v3`.
- no `-ffast-math`: NaN and infinity must come out as the operators say. Contracting `a * b + c` is allowed.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..base import knobs, progress
from ..base.errors import CompileError, UnsupportedError
from . import cpu
from .private import existing_folder, private_folder

Kind = Literal["gcc", "clang", "zig"]

INSTALL = "install a C compiler (gcc or clang with the C library's headers), or `pip install ziglang`"
_BUNDLES_KEPT = 20
_TIME_LIMIT = 900  # seconds for one compiler run; a model of 100,000 lines takes about one minute
_PROBE = """
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
typedef float vector __attribute__((vector_size(16)));
static atomic_int calls;
static void* started(void* arg) { atomic_fetch_add(&calls, *(int*)arg); return arg; }
__attribute__((visibility("default"))) double gs_probe(double x) {
  pthread_t thread; int one = 1; vector v = (vector){0} + (float)x;
  if (pthread_create(&thread, 0, started, &one) || pthread_join(thread, 0)) return -1;
  return floor(sin(x)) + pow(x, 2) + v[3] + atomic_load(&calls);
}
"""
_PROBE_AT, _PROBE_IS = 2.0, 7.0


@dataclass(frozen=True, slots=True)
class Toolchain:
    """A compiler that was seen to work: `command` starts it, `version` is its own word for itself."""

    command: tuple[str, ...]
    kind: Kind
    version: str

    @property
    def identity(self) -> str:
        """What a cache key needs to know: two compilers with one identity make the same code."""
        return f"{self.kind} {self.version} {' '.join(self.command[1:])}".strip()

    def flags(self, isa: cpu.Isa | None = None) -> list[str]:
        """What to compile with; for this very processor where `isa` is None."""
        flags = ["-std=gnu11", "-O3", "-g0", "-fPIC", "-fvisibility=hidden", "-fomit-frame-pointer",
                 "-fno-stack-protector", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
                 # One arena holds floats now and integers later.
                 "-fno-strict-aliasing", "-w"]
        if self.kind != "zig":
            flags += ["-fno-semantic-interposition"]
        if self.kind == "gcc":
            # gcc keeps loops rolled that clang unrolls; its own -funroll-loops made the kernels slower.
            flags += ["-fno-plt"]
        flags += self._target() + self._march(isa)
        if (isa or cpu.here().isa).name == "avx512":
            flags += ["-mprefer-vector-width=512"]
        return flags

    def _march(self, isa: cpu.Isa | None) -> list[str]:
        if isa is not None:
            spelled = isa.zig if self.kind == "zig" else isa.march
            return [spelled] if spelled else []
        if self.kind == "zig":
            return ["-mcpu=native"]
        return ["-march=native"] if cpu.here().arch == "x86_64" else ["-mcpu=native"]

    def _target(self) -> list[str]:
        if self.kind != "zig" or sys.platform != "linux":
            return []
        # An old glibc, so that only symbols are asked for that every host has.
        libc = "musl" if platform.libc_ver()[0] != "glibc" else "gnu.2.28"
        return ["-target", f"{cpu.here().arch}-linux-{libc}"]

    def _linking(self) -> list[str]:
        if sys.platform == "darwin":
            return ["-dynamiclib", "-undefined", "dynamic_lookup"]
        if self.kind == "zig" and sys.platform == "linux":
            return ["-shared", "-nostdlib", *self._target()]
        return ["-shared", "-pthread", "-lm"]

    def build(self, sources: Sequence[Path], library: Path, *, isa: cpu.Isa | None = None,
              extra: Sequence[str] = (), linked: Callable[[], Sequence[Path]] = list) -> None:
        """Compile `sources` (in parallel where they are several) and link them to the shared library `library`, with
        the object files that `linked` gives when the sources are compiled.

        Headers are looked for beside each source. Object files are made in a temporary folder and removed.

        Raises:
            CompileError: the compiler failed; its `bundle` holds the sources, the commands and what was printed.
        """
        with tempfile.TemporaryDirectory(prefix="gesher-build-") as folder:
            objects = [Path(folder) / f"{i}.o" for i in range(len(sources))]
            compile_ = [*self.command, *self.flags(isa), *extra]
            commands = [[*compile_, "-c", str(s), "-o", str(o)] for s, o in zip(sources, objects, strict=True)]
            progress.tell("compiling", 0, 2)
            environment = _environment(self.kind, folder)
            with ThreadPoolExecutor(max(1, min(len(sources), cpu.allowed_cores()))) as pool:
                results = list(pool.map(lambda command: _run(command, environment), commands))
            others = [str(o) for o in linked()]
            link = [*self.command, *self._linking(), *[str(o) for o in objects], *others, "-o", str(library),
                    *[flag for flag in extra if flag.startswith("-fsanitize")]]
            if self.kind != "zig" and "-lm" in link:  # libraries are searched in order: they belong after the objects
                link.remove("-lm")
                link.append("-lm")
            for command, (code, printed) in zip(commands, results, strict=True):
                if code:
                    progress.tell("compiling", 1, 1)
                    raise self._failure(command, printed, sources, [*commands, link])
            code, printed = _run(link, environment)
            progress.tell("compiling", 1, 1)
            if code:
                raise self._failure(link, printed, sources, [*commands, link])

    def compile(self, source: Path, target: Path, *, isa: cpu.Isa | None = None, extra: Sequence[str] = ()) -> None:
        """Compile `source` to the object file `target`.

        Raises:
            CompileError: as `build` does.
        """
        command = [*self.command, *self.flags(isa), *extra, "-c", str(source), "-o", str(target)]
        with tempfile.TemporaryDirectory(prefix="gesher-build-") as folder:
            code, printed = _run(command, _environment(self.kind, folder))
        if code:
            raise self._failure(command, printed, [source], [command])

    def assembly(self, source: Path, *, isa: cpu.Isa | None = None, extra: Sequence[str] = ()) -> str:
        """The assembly text of one source, for people.

        Raises:
            CompileError: as `build` does.
        """
        with tempfile.TemporaryDirectory(prefix="gesher-build-") as folder:
            out = Path(folder) / "out.s"
            command = [*self.command, *self.flags(isa), *extra, "-S", str(source), "-o", str(out)]
            code, printed = _run(command, _environment(self.kind, folder))
            if code:
                raise self._failure(command, printed, [source], [command])
            return out.read_text()

    def _failure(self, command: list[str], printed: str, sources: Sequence[Path],
                 commands: list[list[str]]) -> CompileError:
        bundle = _bundle(printed, sources, commands)
        first = next((line for line in printed.splitlines() if "error" in line), printed.strip()[:300])
        return CompileError(f"{self.kind} {self.version} could not build the generated C: {first}",
                            bundle=str(bundle), place=[s.name for s in sources[:1]])


@dataclass(frozen=True, slots=True)
class Candidate:
    """A compiler that was looked for: `toolchain` where it works, else `reason`."""

    name: str
    toolchain: Toolchain | None
    reason: str | None


def find() -> Toolchain:
    """The compiler to use.

    Raises:
        UnsupportedError: none works; the advice says why each was passed over and what to install.
    """
    found = _candidates(knobs.CC.text, os.environ.get("PATH", ""))
    for candidate in found:
        if candidate.toolchain:
            return candidate.toolchain
    raise UnsupportedError("no C compiler works here", who="compiler",
                           advice="; ".join([f"{c.name}: {c.reason}" for c in found] + [INSTALL]))


def missing() -> str | None:
    """None where a compiler works, else why not and what to install."""
    found = _candidates(knobs.CC.text, os.environ.get("PATH", ""))
    if any(candidate.toolchain for candidate in found):
        return None
    return "; ".join([f"{c.name}: {c.reason}" for c in found] + [INSTALL])


def candidates() -> list[Candidate]:
    """Every compiler that the search would come to, each tried, for `gesher engines` and the tests."""
    return [_try(name, command) for name, command in _named(knobs.CC.text)]


@functools.lru_cache(maxsize=16)
def _candidates(asked: str, path: str) -> tuple[Candidate, ...]:
    """Those tried until one worked. `path` is an argument so that a changed PATH is searched anew."""
    tried: list[Candidate] = []
    for name, command in _named(asked):
        tried.append(_try(name, command))
        if tried[-1].toolchain:
            break
    return tuple(tried)


def _named(asked: str) -> Iterable[tuple[str, tuple[str, ...] | str]]:
    """Names and commands in order of preference; a string instead of a command says why there is none."""
    if asked:
        words = tuple(shlex.split(asked))
        if words == ("zig",):
            yield "zig", _zig()
        else:
            program = shutil.which(words[0])
            yield asked, (program, *words[1:]) if program else f"GESHER_CC={asked} names no program"
        return
    seen: set[str] = set()
    yield "ziglang", _zig()
    for name in ("clang", "cc", "gcc"):
        program = shutil.which(name)
        if program is None:
            yield name, "not on the PATH"
        elif os.path.realpath(program) not in seen:
            seen.add(os.path.realpath(program))
            yield name, (program,)


def _zig() -> tuple[str, ...] | str:
    spec = importlib.util.find_spec("ziglang")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        program = Path(folder) / ("zig.exe" if sys.platform == "win32" else "zig")
        if program.is_file():
            return (str(program), "cc")
    program_on_path = shutil.which("zig")
    return (program_on_path, "cc") if program_on_path else "the package is not installed"


def _try(name: str, command: tuple[str, ...] | str) -> Candidate:
    if isinstance(command, str):
        return Candidate(name, None, command)
    stamp = _stamp(command)
    known = _recall().get(stamp)
    if known is not None:
        return Candidate(name, Toolchain(tuple(known["command"]), known["kind"], known["version"]), None)
    result = _probe(command)
    if isinstance(result, str):
        return Candidate(name, None, result)
    _remember(stamp, result)
    return Candidate(name, result, None)


def _probe(command: tuple[str, ...]) -> Toolchain | str:
    """The toolchain behind `command`, seen to work; or the reason why it is none."""
    is_zig = command[-1] == "cc" and Path(command[0]).stem.startswith("zig")
    # zig wants its cache folders named even for this: a user without a home has no others.
    code, printed = _run([*command, "--version"], _environment("zig" if is_zig else "gcc", tempfile.gettempdir()))
    if code:
        return f"{command[0]} --version fails: {printed.strip()[:200]}"
    first = next((line for line in printed.splitlines() if line.strip()), "")
    kind: Kind = "zig" if is_zig else "clang" if "clang" in printed.lower() else "gcc"
    toolchain = Toolchain(command, kind, first.strip())
    # In a process of its own: a library that crashes must not take us along.
    with tempfile.TemporaryDirectory(prefix="gesher-probe-") as folder:
        source, library = Path(folder) / "probe.c", Path(folder) / "probe.so"
        source.write_text(_PROBE)
        try:
            toolchain.build([source], library)
        except CompileError as error:
            return f"{command[0]} does not build a shared library: {error.what[-200:]}"
        script = (f"import ctypes; f = ctypes.CDLL({str(library)!r}).gs_probe; f.restype = ctypes.c_double; "
                  f"f.argtypes = [ctypes.c_double]; print(f({_PROBE_AT}))")
        code, printed = _run([sys.executable, "-I", "-c", script], dict(os.environ))
        if code or printed.strip() != str(_PROBE_IS):
            return f"what {command[0]} builds does not run: {printed.strip()[-200:]}"
    return toolchain


def _environment(kind: Kind, folder: str) -> dict[str, str]:
    """What a compiler of that kind runs with; what it would keep for itself goes with `folder`."""
    environment = {**os.environ, "LC_ALL": "C"}
    if kind == "zig":
        environment["ZIG_LOCAL_CACHE_DIR"] = folder + "/zig"
        environment["ZIG_GLOBAL_CACHE_DIR"] = str(private_folder("zig"))
    return environment


def _run(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    """The exit code and all that was printed; 127 where the program cannot be started."""
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace", timeout=_TIME_LIMIT, check=False)
    except OSError as error:
        return 127, f"error: {command[0]}: {error}"
    except subprocess.TimeoutExpired:
        return 124, f"error: {command[0]} did not end within {_TIME_LIMIT} s"
    return done.returncode, done.stdout


def _stamp(command: tuple[str, ...]) -> str:
    """Changes when the compiler does (its path, size, time), and with the PATH, where it looks for its linker."""
    told = os.stat(command[0])
    path = hashlib.sha256(os.environ.get("PATH", "").encode()).hexdigest()[:12]
    real = os.path.realpath(command[0])
    return f"{' '.join(command)} {real} {told.st_size} {told.st_mtime_ns} {path} {cpu.here().key}"


def _recall() -> dict[str, dict]:
    """Compilers seen to work before, so that loading a cached model starts no process. Anything odd means: none."""
    try:
        folder = existing_folder("toolchain")
        known = json.loads((folder / "known.json").read_text()) if folder else {}
    except (OSError, ValueError):
        return {}
    wanted = {"command", "kind", "version"}
    return {k: v for k, v in known.items() if isinstance(v, dict) and v.keys() == wanted} if isinstance(known, dict) \
        else {}


def _remember(stamp: str, toolchain: Toolchain) -> None:
    folder = private_folder("toolchain")
    known = dict(list(_recall().items())[-15:])
    known[stamp] = asdict(toolchain)
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False) as out:
            json.dump(known, out)
        os.replace(out.name, folder / "known.json")
    except OSError as error:
        knobs.debug(1, f"the compiler's probe is not remembered: {error}")


def _bundle(printed: str, sources: Sequence[Path], commands: list[list[str]]) -> Path:
    """A folder that replays a failed build: the sources, `replay.sh` and what the compiler said."""
    texts = [source.read_bytes() for source in sources]
    name = hashlib.sha256(b"\0".join([*texts, printed.encode()])).hexdigest()[:16]
    root = private_folder("failed")
    folder = root / name
    folder.mkdir(exist_ok=True)
    moved = {}
    for source, text in zip(sources, texts, strict=True):
        (folder / source.name).write_bytes(text)
        moved[str(source)] = source.name
    lines = [" ".join(shlex.quote(moved.get(word, Path(word).name if word.endswith((".o", ".so")) else word))
                      for word in command) for command in commands]
    (folder / "replay.sh").write_text("#!/bin/sh\n# Run in this folder.\nset -e\n" + "\n".join(lines) + "\n")
    (folder / "output.txt").write_text(printed)
    kept = sorted(root.iterdir(), key=lambda f: f.stat().st_mtime, reverse=True)
    for old in kept[_BUNDLES_KEPT:]:
        shutil.rmtree(old, ignore_errors=True)
    return folder
