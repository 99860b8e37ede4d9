"""The ground floor: errors say what, where and what now; data types are one table; knobs are read when asked for."""

import numpy as np
import pytest

from gesher.base import dtypes, knobs
from gesher.base.errors import CompileError, FormatError, GesherError, ModelError, RunError, UnsupportedError
from gesher.base.report import Report


def test_an_error_says_what_where_and_what_now() -> None:
    e = ModelError("Conv: x has 4 channels, the weight takes 3", rule="shape-inference",
                   place=("graph 'main'", "node 'conv_7' (Conv, opset 22)"), advice="is the picture RGBA?")
    assert str(e.within("resnet.onnx")) == (
        "Conv: x has 4 channels, the weight takes 3\n"
        "  at resnet.onnx › graph 'main' › node 'conv_7' (Conv, opset 22)\n"
        "  is the picture RGBA?")


def test_a_format_error_names_the_byte() -> None:
    assert str(FormatError("cut", offset=7)).endswith("at byte 7 of the file")
    assert "byte" not in str(FormatError("cut"))


def test_an_unsupported_error_says_who_else_could() -> None:
    assert "what could: compiled, reference" in str(UnsupportedError("no", who="x", others=("compiled", "reference")))


@pytest.mark.parametrize("kind", [FormatError, ModelError, UnsupportedError, CompileError, RunError])
def test_every_error_is_a_gesher_error(kind: type[GesherError]) -> None:
    assert issubclass(kind, GesherError)


def test_a_report_raises_its_first_error_and_counts_the_rest() -> None:
    report = Report()
    report.warning("w", "only a warning")
    assert report.ok and len(report) == 1
    report.raise_errors()
    report.error("a", "first", ("here",), "do this")
    report.error("b", "second")
    assert not report.ok
    with pytest.raises(ModelError, match=r"first \(and 1 more") as e:
        report.raise_errors()
    assert e.value.rule == "a" and e.value.place == ("here",)
    assert [f["rule"] for f in report.as_json()] == ["w", "a", "b"]
    assert "error[a]: first" in str(report)


@pytest.mark.parametrize("dtype", dtypes.all_dtypes(), ids=str)
def test_every_type_goes_to_numpy_and_back(dtype: dtypes.DType) -> None:
    assert dtypes.from_numpy(dtype.numpy) is dtype
    assert dtypes.by_code(dtype.code) is dtype and dtypes.BY_NAME[dtype.name] is dtype


def test_there_are_28_types_as_onnx_numbers_and_names_them() -> None:
    from onnx import TensorProto

    theirs = {k.lower(): v for k, v in TensorProto.DataType.items() if v}
    assert {d.name: d.code for d in dtypes.all_dtypes()} == theirs
    assert len(theirs) == 28


@pytest.mark.parametrize(("dtype", "count", "size"), [
    (dtypes.FLOAT, 3, 12), (dtypes.INT4, 3, 2), (dtypes.UINT2, 5, 2), (dtypes.FLOAT6E2M3, 5, 4),
    (dtypes.STRING, 3, -1)])
def test_bytes_in_a_file(dtype: dtypes.DType, count: int, size: int) -> None:
    assert dtype.file_bytes(count) == size


def test_strings_of_any_width_are_strings_and_dates_are_refused() -> None:
    assert dtypes.from_numpy("<U7") is dtypes.STRING
    assert dtypes.from_numpy(np.dtype(">f4")) is dtypes.FLOAT
    with pytest.raises(TypeError, match="datetime64"):
        dtypes.from_numpy("datetime64[s]")


def test_knobs_are_read_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GESHER_DEBUG", raising=False)
    assert knobs.DEBUG.number == 0
    monkeypatch.setenv("GESHER_DEBUG", "2")
    assert knobs.DEBUG.number == 2
    monkeypatch.setenv("GESHER_DEBUG", "much")
    with pytest.raises(GesherError, match="not a whole number"):
        _ = knobs.DEBUG.number


def test_debug_prints_from_its_level_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GESHER_DEBUG", "3")
    knobs.debug(3, "shown")
    knobs.debug(4, "hidden")
    assert capsys.readouterr().err == "shown\n"


def test_the_cache_folder_follows_its_knob(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GESHER_CACHE", "somewhere")
    assert str(knobs.cache_folder()) == "somewhere"
    monkeypatch.delenv("GESHER_CACHE")
    assert knobs.cache_folder().name == "gesher"
