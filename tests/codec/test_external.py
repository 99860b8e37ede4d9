"""Data files: opened only inside the model's real folder, checked before they are used, laid out aligned."""

import hashlib
import os
import time

import pytest

from gesher.base.errors import ModelError
from gesher.codec.external import ALIGN_LARGE, ALIGN_SMALL, DataFile, ExternalData, Folder


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home" / "sub").mkdir(parents=True)
    (tmp_path / "home" / "w.bin").write_bytes(bytes(range(100)))
    (tmp_path / "home" / "sub" / "v.bin").write_bytes(b"below")
    (tmp_path / "secret.bin").write_bytes(b"secret")
    return tmp_path / "home"


def data(home, *, needed=-1, **entries):
    return ExternalData(list(entries.items()), Folder(home / "m.onnx"), "w", needed)


def test_a_stretch_of_a_file_is_a_view(home):
    assert bytes(data(home, location="w.bin", offset="10", length="5").view()) == bytes(range(10, 15))
    assert bytes(data(home, location="w.bin").view()) == bytes(range(100))
    assert bytes(data(home, location="w.bin", offset="10", needed=7).view()) == bytes(range(10, 17))
    assert bytes(data(home, location="sub/v.bin").view()) == b"below"
    assert bytes(data(home, location="./w.bin", length="1").view()) == b"\0"


def test_a_file_is_mapped_once(home):
    folder = Folder(home / "m.onnx")
    one, two = (ExternalData([("location", "w.bin"), ("offset", o)], folder) for o in ("0", "50"))
    assert one.view().obj is two.view().obj


@pytest.mark.parametrize(("location", "says"), [
    ("", "no name"),
    ("../secret.bin", r"by '\.\.'"),
    ("sub/../w.bin", r"by '\.\.'"),
    ("sub\\..\\..\\secret.bin", r"by '\.\.'"),
    ("/etc/passwd", "absolute"),
    ("\\secret.bin", "absolute"),
    ("C:\\secret.bin", "absolute"),
    ("C:secret.bin", "absolute"),
    ("w.bin\0.txt", "no name"),
    ("link.bin", "by a symlink"),
    ("linked/secret.bin", "by a symlink"),
    ("hard.bin", "hardlink"),
    ("fifo", "not a plain file"),
    ("sub", "not a plain file"),
    (".", "not a plain file"),
    ("loop", "cannot be opened"),
    ("missing.bin", "cannot be opened"),
    ("x" * 300, "cannot be opened"),
])
def test_what_is_not_a_plain_file_of_the_folder_is_refused_at_once(home, location, says):
    (home / "link.bin").symlink_to(home.parent / "secret.bin")
    (home / "linked").symlink_to(home.parent)
    os.link(home.parent / "secret.bin", home / "hard.bin")
    os.mkfifo(home / "fifo")
    (home / "loop").symlink_to(home / "loop")
    start = time.monotonic()
    for action in ("view", "check", "verify"):
        d = data(home, location=location, checksum="0" * 40)
        with pytest.raises(ModelError, match=says) as e:
            getattr(d, action)()
        assert e.value.place == ("tensor 'w'",) and e.value.rule == "external-data"
    assert time.monotonic() - start < 1


def test_a_symlink_inside_the_folder_is_fine(home):
    (home / "link.bin").symlink_to(home / "w.bin")
    assert len(data(home, location="link.bin").view()) == 100


def test_a_model_that_is_itself_a_symlink_finds_its_data_where_it_really_lies(tmp_path):
    """As download caches lay files out: names beside one another that lead to one folder of contents."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "names").mkdir()
    for name, blob in (("m.onnx", "aa"), ("m.onnx.data", "bb")):
        (tmp_path / "blobs" / blob).write_bytes(blob.encode())
        (tmp_path / "names" / name).symlink_to(tmp_path / "blobs" / blob)
    d = ExternalData([("location", "m.onnx.data")], Folder(tmp_path / "names" / "m.onnx"))
    assert bytes(d.view()) == b"bb"


@pytest.mark.parametrize(("entries", "needed", "says"), [
    ({"offset": "90", "length": "11"}, -1, "from byte 90 to 101, but 'w.bin' has 100"),
    ({"offset": "101"}, -1, "from byte 101"),
    ({"offset": "0", "length": "8"}, 12, "ask for 12 bytes, the external data is said to have 8"),
    ({"offset": "96"}, 12, "from byte 96 to 108"),
    ({"offset": str((1 << 63) - 1), "length": str((1 << 63) - 1)}, -1, "from byte"),
])
def test_lengths_that_contradict_the_file_or_the_dims_are_told_with_the_tensor(home, entries, needed, says):
    d = data(home, location="w.bin", needed=needed, **entries)
    for action in (d.check, d.view):
        with pytest.raises(ModelError, match=says) as e:
            action()
        assert e.value.place == ("tensor 'w'",)


@pytest.mark.parametrize("text", ["-1", "+5", " 5", "1_0", "0x10", "", "٣", "9" * 5000, str(1 << 63)])
@pytest.mark.parametrize("key", ["offset", "length"])
def test_what_is_no_number_is_refused(home, key, text):
    with pytest.raises(ModelError, match=f"the {key} of the external data"):
        data(home, location="w.bin", **{key: text})


def test_checksums_are_verified_on_demand(home):
    digest = hashlib.sha1(bytes(range(100))).hexdigest()
    assert data(home, location="w.bin", checksum=digest).verify()
    assert data(home, location="w.bin", checksum=digest.upper()).verify()
    assert data(home, location="w.bin").verify()
    assert not data(home, location="w.bin", checksum="0" * 40).verify()


def test_without_a_folder_there_is_no_data():
    with pytest.raises(ModelError, match="not loaded from a folder"):
        ExternalData([("location", "w.bin")], None).view()


def test_a_data_file_is_laid_out_aligned():
    out = DataFile("w.data")
    small, large = memoryview(b"abc"), memoryview(bytes(1 << 20))
    offsets = [int(dict(out.add(v))["offset"]) for v in (small, small, large, small, large)]
    assert offsets[:2] == [0, ALIGN_SMALL] and offsets[2] == ALIGN_LARGE
    assert all(o % ALIGN_LARGE == 0 for o in (offsets[2], offsets[4]))
    content = b"".join(out.pieces())
    assert len(content) == len(out) and all(content[o:o + 3] == b"abc" for o in (offsets[0], offsets[1], offsets[3]))


@pytest.mark.parametrize("name", ["", "/w.data", "../w.data", "a/../../w", "C:w", "\\w", "a\0b"])
def test_a_data_file_cannot_be_laid_outside_the_folder(name):
    with pytest.raises(ModelError, match="cannot be the name"):
        DataFile(name)
