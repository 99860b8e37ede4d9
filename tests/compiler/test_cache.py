"""The cache of compiled models: verified, atomic, private, bounded, and never in the way."""

import json
import multiprocessing
import os
import stat
import time
from pathlib import Path

import pytest

from gesher.base.errors import CompileError
from gesher.compiler import cache
from gesher.compiler.private import PrivateFolderError, private_folder

KEY = "ab" * 32


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("GESHER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# As the shelf of sessions, with weights beside.
HELD = cache.Shelf("held", ("model.c", "model.so", "weights.bin"), "model.so")


def maker(text: str = "library", weights: str | None = None, calls: list | None = None):
    def make(into: Path):
        if calls is not None:
            calls.append(into)
        (into / "model.c").write_text("int x;")
        (into / "model.so").write_text(text)
        if weights is not None:
            (into / "weights.bin").write_text(weights)
        return {"text": text[:20]}

    return make


def test_an_entry_is_made_once_and_found_after():
    calls: list = []
    first = cache.get_or_build(KEY, maker(calls=calls))
    second = cache.get_or_build(KEY, maker("other", calls=calls))
    assert len(calls) == 1
    assert first == second
    assert second.library.read_text() == "library" and second.facts == {"text": "library"}


def test_keys_tell_parts_apart():
    keys = {cache.key_of(p) for p in ({"a": "xy", "b": ""}, {"a": "x", "b": "y"}, {"a": "", "b": "xy"}, {"ab": "xy"},
                                      {"a": "xy"}, {"a": b"xy", "c": ""})}
    assert len(keys) == 6
    assert cache.key_of({"a": "x", "b": "y"}) == cache.key_of({"b": b"y", "a": b"x"})


def test_folders_are_readable_by_the_user_alone(folder):
    entry = cache.get_or_build(KEY, maker())
    for each in (folder, folder / "models", entry.folder):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["model.so", "model.c", "weights.bin"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_entry_is_made_again(name, damage):
    entry = cache.get_or_build(KEY, maker(weights="w" * 100), HELD)
    path = entry.folder / name
    raw = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(raw[:-1])
    else:
        raw[2] ^= 1
        path.write_bytes(raw)
    assert cache.find(KEY, HELD) is None
    again = cache.get_or_build(KEY, maker("new", weights="w" * 100), HELD)
    assert again.library.read_text() == "new"
    assert cache.find(KEY, HELD) == again


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": 1}', "null"])
def test_an_unreadable_description_is_damage(text):
    entry = cache.get_or_build(KEY, maker())
    (entry.folder / "meta.json").write_text(text)
    assert cache.find(KEY) is None
    assert cache.get_or_build(KEY, maker("new")).library.read_text() == "new"


def test_an_entry_under_another_name_is_not_believed():
    entry = cache.get_or_build(KEY, maker())
    other = "cd" * 32
    os.rename(entry.folder, entry.folder.with_name(other))
    assert cache.find(other) is None


def test_a_failed_build_leaves_nothing(folder):
    def fail(into: Path):
        (into / "model.c").write_text("half")
        raise CompileError("no")

    with pytest.raises(CompileError):
        cache.get_or_build(KEY, fail)
    assert list((folder / "models").iterdir()) == []
    assert [f for f in (folder / "work").iterdir() if f.is_dir()] == []


def test_a_maker_without_a_library_is_an_error():
    with pytest.raises(CompileError, match=r"model\.so"):
        cache.get_or_build(KEY, lambda into: {})


def test_leavings_of_a_dead_process_are_cleared(folder):
    cache.get_or_build(KEY, maker())
    child = multiprocessing.get_context("spawn").Process(target=int)
    child.start()
    child.join()
    dead, living = folder / "work" / f"{child.pid}-x", folder / "work" / f"{os.getpid()}-x"
    dead.mkdir()
    living.mkdir()
    (dead / "model.c").write_text("half")
    cache.get_or_build("cd" * 32, maker())
    assert not dead.exists() and living.exists()


def _build_slowly(folder: str, report):
    os.environ["GESHER_CACHE"] = folder

    def make(into: Path):
        with open(Path(folder) / "made", "a") as log:
            log.write("x")
        time.sleep(0.2)
        return maker()(into)

    report.put(cache.get_or_build(KEY, make).library.read_text())


def test_processes_at_once_make_an_entry_once(folder):
    private_folder("models")
    context = multiprocessing.get_context("spawn")
    report = context.Queue()
    children = [context.Process(target=_build_slowly, args=(str(folder), report)) for _ in range(4)]
    for child in children:
        child.start()
    assert [report.get(timeout=60) for _ in children] == ["library"] * 4
    for child in children:
        child.join()
    assert (folder / "made").read_text() == "x"


def _build_and_die(folder: str):
    os.environ["GESHER_CACHE"] = folder

    def make(into: Path):
        (into / "model.so").write_text("half")
        os._exit(9)

    cache.get_or_build(KEY, make)


def test_an_interrupted_build_is_never_seen(folder):
    child = multiprocessing.get_context("spawn").Process(target=_build_and_die, args=(str(folder),))
    child.start()
    child.join()
    assert child.exitcode == 9
    assert cache.find(KEY) is None
    assert cache.get_or_build(KEY, maker()).library.read_text() == "library"
    assert [f for f in (folder / "work").iterdir() if f.is_dir()] == []


def test_the_least_recently_used_entries_go_first(monkeypatch):
    monkeypatch.setenv("GESHER_CACHE_MB", "3")
    keys = [f"{i:02x}" * 32 for i in range(4)]
    for i, key in enumerate(keys[:3]):
        entry = cache.get_or_build(key, maker("x" * 900_000))
        os.utime(entry.folder, (i, i))
    assert cache.find(keys[0])  # used: now the newest
    cache.get_or_build(keys[3], maker("x" * 900_000))
    assert [bool(cache.find(key)) for key in keys] == [True, False, True, True]


def test_what_was_just_made_is_never_evicted(monkeypatch):
    monkeypatch.setenv("GESHER_CACHE_MB", "1")
    cache.get_or_build(KEY, maker("x" * 500_000))
    big = cache.get_or_build("cd" * 32, maker("x" * 5_000_000))
    assert big.library.stat().st_size == 5_000_000
    assert cache.find("cd" * 32) and cache.find(KEY) is None


def test_entries_are_counted_now_and_then_not_at_each_build(monkeypatch):
    counted: list[str] = []
    real = cache._evict
    monkeypatch.setattr(cache, "_evict", lambda *a, keep: counted.append(keep) or real(*a, keep=keep))
    monkeypatch.setenv("GESHER_CACHE_MB", "3")
    keys = [f"{i:02x}" * 32 for i in range(8)]
    for key in keys[:3]:
        cache.get_or_build(key, maker("x" * 500_000))
    assert counted == keys[:1]
    for key in keys[3:]:
        cache.get_or_build(key, maker("x" * 900_000))
    assert len(counted) > 2 and sum(cache.find(key) is not None for key in keys) == 3


@pytest.mark.parametrize("which", ["", "models"])
def test_a_folder_others_may_write_to_is_refused(folder, which):
    cache.get_or_build(KEY, maker())
    (folder / which).chmod(0o777)
    with pytest.raises(PrivateFolderError, match="may be written by others"):
        cache.get_or_build(KEY, maker())


def test_a_folder_of_another_user_is_refused(folder, monkeypatch):
    cache.get_or_build(KEY, maker())
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(PrivateFolderError, match="belongs to user"):
        cache.find(KEY)


def test_a_file_in_the_place_of_the_cache_is_refused(folder):
    folder.write_text("")
    with pytest.raises(PrivateFolderError, match="is not a folder"):
        cache.get_or_build(KEY, maker())


def test_a_cache_that_cannot_be_written_warns_and_works(folder, monkeypatch):
    # A file system that refuses: root, who runs these tests in containers, is not held back by modes.
    monkeypatch.setattr(os, "access", lambda *a, **k: False)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        entry = cache.get_or_build(KEY, maker())
    assert entry.library.read_text() == "library" and folder not in entry.folder.parents


def test_a_full_disk_warns_and_works(folder, monkeypatch):
    real = os.fsync

    def full(descriptor):
        if str(folder) in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        real(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not name open files")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert cache.get_or_build(KEY, maker()).library.read_text() == "library"


def test_a_read_only_cache_is_still_read(folder, monkeypatch):
    cache.get_or_build(KEY, maker())
    monkeypatch.setattr(os, "utime", lambda *a, **k: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    monkeypatch.setattr(os, "access", lambda *a, **k: False)
    entry = cache.find(KEY)
    assert entry is not None and entry.folder == folder / "models" / KEY


def test_weights_are_hashed_again_only_when_they_changed(monkeypatch):
    entry = cache.get_or_build(KEY, maker(weights="weights"), HELD)
    hashed: list[str] = []
    real = cache._sha256
    monkeypatch.setattr(cache, "_sha256", lambda path: hashed.append(Path(path).name) or real(path))
    assert cache.find(KEY, HELD)
    assert hashed == ["model.c", "model.so"]
    os.utime(entry.folder / "weights.bin", (1, 1))
    assert cache.find(KEY, HELD) and "weights.bin" in hashed


def test_the_description_can_be_read_by_people():
    meta = json.loads((cache.get_or_build(KEY, maker()).folder / "meta.json").read_text())
    assert meta["key"] == KEY and set(meta["files"]) == {"model.c", "model.so"}
