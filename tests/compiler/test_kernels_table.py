"""The table of kernels says what the files hold."""

import re

import pytest

from gesher.base.errors import CompileError
from gesher.compiler import runtime
from gesher.compiler.build import build
from gesher.compiler.kernels import KERNELS, kernel, prototype


@pytest.mark.parametrize("row", KERNELS, ids=lambda r: r.name)
def test_each_kernel_has_a_plain_version_of_the_same_signature(row):
    assert prototype(row.file, row.plain).replace(row.plain, row.name) == row.signature
    assert row.does and callable(row.meaning)
    assert kernel(row.name) is row


def test_all_headers_stand_together_in_one_file():
    files = sorted({row.file for row in KERNELS})
    text = runtime.unit([*files, *reversed(files)], "GS_EXPORT int gs_run(const GsCall* call) { return 0; }\n")
    assert not re.search(r'#include "', text)
    assert text.count("typedef struct GsGemmBits {") == 1
    build(text)


def test_a_header_that_is_not_ours_is_an_error():
    with pytest.raises(CompileError, match="nowhere"):
        runtime.flatten('#include "nowhere.h"')
    with pytest.raises(CompileError):
        runtime.flatten('#include "../cpu.py"')
