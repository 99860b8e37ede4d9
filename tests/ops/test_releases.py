"""The table of releases, held against the one that onnx publishes."""

import onnx.helper
import pytest

from gesher.base import dtypes
from gesher.ops.releases import NEWEST, RELEASES, companion, ir_for, ir_of_opset


def test_the_table_is_onnx_s_own() -> None:
    theirs = {row[0]: (row[1], row[2], row[3]) for row in onnx.helper.VERSION_TABLE}
    ours = {r.onnx: (r.ir, r.opset, r.ml) for r in RELEASES}
    assert all(theirs[k] == v for k, v in ours.items())
    # What is not listed repeats the release before it.
    assert set(theirs.values()) == set(ours.values())


@pytest.mark.parametrize("opset", range(1, 29))
def test_the_lowest_ir_version_of_an_opset(opset: int) -> None:
    want = min(row[1] for row in onnx.helper.VERSION_TABLE if row[2] >= opset)
    assert ir_of_opset("", opset) == ir_for({"": opset}) == want
    # Opsets 2 to 4 were never in a release of their own, and onnx's function knows released ones only.
    if not 2 <= opset <= 4:
        assert onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)]) == want


def test_unknown_versions_and_domains() -> None:
    assert ir_of_opset("", NEWEST.opset + 1) is None and ir_for({"": NEWEST.opset + 1}) == NEWEST.ir
    assert ir_of_opset("com.example", 7) == 0
    assert ir_for({"": 17}, [dtypes.FLOAT8E5M2]) == 9


def test_a_domain_comes_in_the_version_of_its_release() -> None:
    assert [companion("ai.onnx.ml", v) for v in (7, 13, 16, 20, 21, 28)] == [1, 2, 3, 4, 5, 5]
    assert companion("com.microsoft", 21) == 1
