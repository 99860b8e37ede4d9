"""Files are opened without harm and replaced whole or not at all."""

import io
import mmap
import os
import socket
import stat
import threading
import time

import pytest

from gesher.base.errors import FormatError, ModelError
from gesher.codec import file as file_module
from gesher.codec.file import MAP_FROM, Staged, check_unchanged, open_source, write_file


def test_paths_bytes_and_file_objects(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"content")
    with open(path, "rb") as f:
        assert bytes(open_source(f).view) == b"content"
    for what in (path, str(path), b"content", bytearray(b"content"), memoryview(b"content"), io.BytesIO(b"content")):
        assert bytes(open_source(what).view) == b"content"
    assert open_source(path).path == path and open_source(b"x").path is None


def test_large_files_are_mapped_and_small_ones_read(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(MAP_FROM))
    assert isinstance(open_source(path).buf, mmap.mmap)
    path.write_bytes(bytes(MAP_FROM - 1))
    assert isinstance(open_source(path).buf, bytes)


@pytest.mark.parametrize("what", [b"", io.BytesIO()])
def test_an_empty_file_is_no_model(what):
    with pytest.raises(FormatError, match="empty"):
        open_source(what)


def test_a_text_file_object_is_refused():
    with pytest.raises(FormatError, match="binary"):
        open_source(io.StringIO("x"))


def test_what_is_no_plain_file_is_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        monkeypatch.chdir(tmp_path)  # a socket's path must be short
        s.bind("sock")
        cases = [(tmp_path, "a folder"), (tmp_path / "fifo", "a FIFO"), (tmp_path / "sock", "a socket"),
                 ("/dev/zero", "a device"), (tmp_path / "nothing", "No such file"), ("a\0b", "no path"),
                 (tmp_path / ("x" * 300), "too long")]
        for path, says in cases:
            start = time.monotonic()
            with pytest.raises(FormatError, match=says):
                open_source(path)
            assert time.monotonic() - start < 1
        for path in (tmp_path, tmp_path / "fifo", "/dev/null"):
            with pytest.raises(FormatError, match="not a file"):
                write_file(path, [b"x"])


def test_a_file_is_replaced_through_a_new_one(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    inode = path.stat().st_ino
    assert write_file(path, [b"new ", memoryview(b"content")]) == 11
    assert path.read_bytes() == b"new content" and path.stat().st_ino != inode
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whatever_happens_while_writing_the_old_file_stands(tmp_path, error):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def pieces():
        yield b"new"
        raise error

    with pytest.raises(error):
        write_file(path, pieces())
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(file_module.os, "fsync", full)
    with pytest.raises(FormatError, match="No space left"):
        write_file(path, [b"new"])
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        write_file(tmp_path / "no" / "m.onnx", [b"x"])


def test_permission_bits_stay_and_new_files_get_the_usual_ones(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    path.chmod(0o640)
    write_file(path, [b"new"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "n.onnx", [b"new"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "n.onnx").stat().st_mode) == 0o640


def test_a_symlink_stays_a_symlink(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "m.onnx").write_bytes(b"old")
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "m.onnx")
    write_file(tmp_path / "link.onnx", [b"new"])
    assert (tmp_path / "link.onnx").is_symlink() and (tmp_path / "real" / "m.onnx").read_bytes() == b"new"


def test_a_mapped_file_can_be_replaced_by_what_was_read_from_it(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"a" * MAP_FROM + b"tail")
    source = open_source(path)
    write_file(path, [b"head", source.view])
    assert path.read_bytes() == b"head" + b"a" * MAP_FROM + b"tail"
    assert bytes(source.view[-4:]) == b"tail" and len(source) == MAP_FROM + 4
    check_unchanged(source)


def test_a_mapped_file_that_is_changed_in_place_is_found_out(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(bytes(MAP_FROM))
    source = open_source(path)
    check_unchanged(source)
    with open(path, "r+b") as f:
        f.write(b"other")
    os.utime(path, ns=(1, 1))
    with pytest.raises(ModelError, match="changed in place"):
        check_unchanged(source)
    path.unlink()
    check_unchanged(source)


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "m.onnx"
    contents = [bytes([i]) * 300_000 for i in range(8)]
    threads = [threading.Thread(target=write_file, args=(path, [c])) for c in contents]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert path.read_bytes() in contents and [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_staged_file_can_be_discarded(tmp_path):
    staged = Staged(tmp_path / ("m" * 250))
    staged.write([b"x"])
    assert len(list(tmp_path.iterdir())) == 1
    staged.discard()
    staged.discard()
    assert not list(tmp_path.iterdir())
