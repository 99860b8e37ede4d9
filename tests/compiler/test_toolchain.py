"""The search for a compiler, what it builds, and what it says when it cannot."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gesher.base.errors import CompileError, UnsupportedError
from gesher.compiler import cpu, runtime, toolchain
from gesher.compiler.build import build
from gesher.compiler.library import Library

# All that work here, whatever GESHER_CC names for this run.
WORKING = [found for name, command in toolchain._named("") if (found := toolchain._try(name, command).toolchain)]


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GESHER_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GESHER_CC", raising=False)
    toolchain._candidates.cache_clear()
    yield tmp_path / "cache"
    toolchain._candidates.cache_clear()


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_some_compiler_works_here(own_cache):
    assert toolchain.missing() is None
    assert toolchain.find() in WORKING


@pytest.mark.parametrize("compiler", WORKING, ids=lambda c: c.kind)
@pytest.mark.parametrize("isa", [None, *cpu.here().isas()], ids=lambda i: i.name if i else "native")
def test_every_compiler_builds_for_every_isa(compiler, isa, tmp_path):
    source = tmp_path / "f.c"
    source.write_text('#include "gs_base.h"\nGS_EXPORT int width(void) { return GS_W; }\n')
    (tmp_path / "gs_base.h").write_text(runtime.text_of("gs_base.h"))
    compiler.build([source], tmp_path / "f.so", isa=isa)
    assert Library(tmp_path / "f.so").function("width")() == (isa or cpu.here().isa).width


@pytest.mark.parametrize("compiler", WORKING, ids=lambda c: c.kind)
def test_nan_and_infinity_survive_the_flags(compiler, tmp_path):
    source = tmp_path / "f.c"
    source.write_text('__attribute__((visibility("default"))) int odd(float x) { return (x != x) * 2 + (x - x != 0); }')
    compiler.build([source], tmp_path / "f.so")
    odd = Library(tmp_path / "f.so").function("odd", ctypes.c_int, ctypes.c_float)
    assert [odd(v) for v in (1.0, float("nan"), float("inf"))] == [0, 3, 1]


@pytest.mark.parametrize("compiler", WORKING, ids=lambda c: c.kind)
def test_several_sources_become_one_library(compiler, tmp_path):
    sources = []
    for i in range(5):
        sources.append(tmp_path / f"part{i}.c")
        after = f"extern int part{i + 1}(int); " if i < 4 else ""
        value = f"part{i + 1}(x + 1)" if i < 4 else "x"
        sources[-1].write_text(f'{after}__attribute__((visibility("{"hidden" if i else "default"}")))'
                               f" int part{i}(int x) {{ return {value}; }}")
    compiler.build(sources, tmp_path / "all.so")
    assert Library(tmp_path / "all.so").function("part0", ctypes.c_int, ctypes.c_int)(10) == 14


def test_a_compiler_without_headers_is_passed_over_with_the_reason(own_cache, tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder / "cc", 'case "$*" in *--version*) echo "cc (Broken) 1.0";; '
                          '*) echo "fatal error: math.h: No such file" >&2; exit 1;; esac')
    monkeypatch.setenv("PATH", str(folder))
    cc = next(c for c in toolchain.candidates() if c.name == "cc")
    assert cc.toolchain is None and "math.h" in cc.reason


def test_a_compiler_whose_code_crashes_is_passed_over(own_cache, tmp_path, monkeypatch):
    real = WORKING[0]
    folder = tmp_path / "bin"
    folder.mkdir()
    # It builds everything as a library that ends the process.
    bad = tmp_path / "bad.c"
    bad.write_text('#include <stdlib.h>\n__attribute__((visibility("default"))) double gs_probe(double x) { abort(); }')
    real.build([bad], tmp_path / "bad.so")
    script(folder / "cc", 'case "$*" in *--version*) echo "cc (Bad) 1.0"; exit;; esac\n'
                          'while [ "$1" != -o ]; do shift; done\n' f'/bin/cp {tmp_path}/bad.so "$2"')
    monkeypatch.setenv("PATH", str(folder))
    cc = next(c for c in toolchain.candidates() if c.name == "cc")
    assert cc.toolchain is None and "does not run" in cc.reason


def test_with_an_empty_path_ziglang_serves(own_cache, tmp_path):
    if not any(c.kind == "zig" for c in WORKING):
        pytest.skip("the ziglang package is not installed")
    told = subprocess.run(
        [sys.executable, "-c", "from gesher.compiler import toolchain; print(toolchain.find().kind)"],
        env={"PATH": str(tmp_path), "GESHER_CACHE": str(own_cache), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False)
    assert told.stdout.strip() == "zig", told.stderr


def test_without_any_compiler_the_error_says_what_to_install(own_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(toolchain, "_zig", lambda: "the package is not installed")
    assert "pip install ziglang" in toolchain.missing()
    with pytest.raises(UnsupportedError, match="cc: not on the PATH"):
        toolchain.find()


def test_the_named_compiler_is_used_or_its_failure_told(own_cache, monkeypatch):
    monkeypatch.setenv("GESHER_CC", "no-such-compiler -m64")
    assert "GESHER_CC=no-such-compiler -m64 names no program" in toolchain.missing()
    named = WORKING[-1]
    monkeypatch.setenv("GESHER_CC", " ".join(named.command))
    assert toolchain.find().command == named.command


def test_what_works_is_remembered_until_the_compiler_changes(own_cache, monkeypatch):
    assert toolchain.missing() is None
    toolchain._candidates.cache_clear()
    probes: list = []
    real = toolchain._probe
    monkeypatch.setattr(toolchain, "_probe", lambda command: probes.append(command) or real(command))
    assert toolchain.find() in WORKING and probes == []
    toolchain._candidates.cache_clear()
    monkeypatch.setattr(toolchain, "_stamp", lambda command: "changed " + command[0])
    assert toolchain.find() in WORKING and len(probes) == 1


@pytest.mark.parametrize("compiler", WORKING, ids=lambda c: c.kind)
def test_a_failure_carries_a_bundle_that_replays_it(own_cache, compiler, tmp_path):
    source = tmp_path / "broken.c"
    source.write_text("int f(void) { return undeclared_name; }\n")
    with pytest.raises(CompileError, match="undeclared_name") as caught:
        compiler.build([source], tmp_path / "broken.so")
    bundle = Path(caught.value.bundle)
    assert (bundle / "broken.c").read_text() == source.read_text()
    replay = subprocess.run(["sh", "replay.sh"], cwd=bundle, capture_output=True, text=True, check=False)
    assert replay.returncode != 0 and "undeclared_name" in replay.stdout + replay.stderr


def test_bundles_do_not_pile_up(own_cache, tmp_path):
    for i in range(toolchain._BUNDLES_KEPT + 3):
        source = tmp_path / "broken.c"
        source.write_text(f"int f(void) {{ return undeclared_{i}; }}\n")
        toolchain._bundle(f"error {i}", [source], [["cc", str(source)]])
    assert len(list((own_cache / "failed").iterdir())) == toolchain._BUNDLES_KEPT


def test_a_second_build_starts_no_compiler(own_cache, monkeypatch):
    source = 'GS_EXPORT int f(void) { return 5; }'
    first = build('#include "gs_base.h"\n' + source)
    monkeypatch.setattr(toolchain, "_run", lambda *a: pytest.fail("a compiler was started"))
    assert build('#include "gs_base.h"\n' + source) == first
    assert Library(first.library).function("f")() == 5


def test_quotas_of_control_groups_bound_the_cores(tmp_path):
    group = tmp_path / "fs" / "a" / "b"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "self").write_text("0::/a/b\n")
    assert cpu._cgroup_quota(tmp_path / "self", tmp_path / "fs") == 1.5
    old = tmp_path / "fs" / "cpu,cpuacct" / "docker"
    old.mkdir(parents=True)
    (old / "cpu.cfs_quota_us").write_text("200000\n")
    (old / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "self").write_text("4:cpu,cpuacct:/docker\n2:memory:/docker\n")
    assert cpu._cgroup_quota(tmp_path / "self", tmp_path / "fs") == 2.0
    (tmp_path / "self").write_text("")
    assert cpu._cgroup_quota(tmp_path / "self", tmp_path / "fs") is None
