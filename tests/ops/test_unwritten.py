"""The list of ONNX's operators that the book lacks is exact, and may only shrink."""

import onnx.defs

from gesher import ops
from gesher.ops.unwritten import UNWRITTEN


def test_the_list_is_what_onnx_has_and_the_book_has_not() -> None:
    theirs = {(s.domain, s.name) for s in onnx.defs.get_all_schemas()}
    ours = {(o.domain, o.name) for o in ops.operators()}
    assert theirs - ours == UNWRITTEN
