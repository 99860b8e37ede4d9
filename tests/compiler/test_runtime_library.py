"""Calling compiled code: the struct is the same on both sides, errors come back as text, addresses are right."""

import ctypes
import os

import numpy as np
import pytest

from gesher.base.errors import CompileError, RunError
from gesher.compiler.build import build
from gesher.compiler.library import Call, GsCall, Library, Pool, address, entry_point

SOURCE = """
#include "gs_pool.h"
GS_EXPORT int64_t offset(int64_t field) {
  switch (field) {
    case 0: return offsetof(GsCall, inputs);
    case 1: return offsetof(GsCall, outputs);
    case 2: return offsetof(GsCall, weights);
    case 3: return offsetof(GsCall, arena);
    case 4: return offsetof(GsCall, dims);
    case 5: return offsetof(GsCall, pool);
    case 6: return offsetof(GsCall, times);
    case 7: return offsetof(GsCall, message);
    case 8: return offsetof(GsCall, message_bytes);
    default: return sizeof(GsCall);
  }
}
GS_EXPORT int gs_run(const GsCall* call) {
  const float* x = call->inputs[0];
  float* y = call->outputs[0];
  if (call->dims[0] < 0) return gs_fail(call, 3, "input 'x' has a negative size");
  if (call->dims[0] > 100) return 4;
  int64_t start = gs_now_ns();
  for (int64_t i = 0; i < call->dims[0]; i++) y[i] = x[i] + ((const float*)call->weights)[i] + gs_pool_size(call->pool);
  if (call->times) call->times[0] += gs_now_ns() - start + 1;
  return 0;
}
"""


@pytest.fixture(scope="module")
def library():
    return Library(build(SOURCE).library)


def test_the_struct_is_the_same_on_both_sides(library):
    offset = library.function("offset", ctypes.c_int64, ctypes.c_int64)
    names = [name for name, _ in GsCall._fields_]
    assert [getattr(GsCall, name).offset for name in names] == [offset(i) for i in range(len(names))]
    assert ctypes.sizeof(GsCall) == offset(-1)


def test_a_call_reaches_everything(library):
    run, call = entry_point(library), Call(1, 1, dims=1, steps=1)
    x, y, w = np.float32([1, 2, 3]), np.zeros(3, np.float32), np.float32([10, 20, 30])
    call.inputs[0], call.outputs[0], call.dims[0] = address(x), address(y), 3
    call.weights(address(w))
    call.check(run(call.pointer))
    assert y.tolist() == [12, 23, 34]
    assert call.times[0] == 0
    call.profile(True)
    pool = Pool(library, 2)
    call.pool(pool)
    call.check(run(call.pointer))
    assert y.tolist() == [13, 24, 35]
    assert call.times[0] > 0
    call.pool(None)
    pool.close()


def test_a_failure_brings_its_message(library):
    run, call = entry_point(library), Call(1, 1, dims=1)
    call.dims[0] = -1
    with pytest.raises(RunError, match="'x' has a negative size"):
        call.check(run(call.pointer))
    call.dims[0] = 1000
    with pytest.raises(RunError, match="stopped with code 4"):
        call.check(run(call.pointer))


def test_addresses_are_those_of_the_first_element():
    whole = np.arange(24.0).reshape(2, 3, 4)
    frozen = whole[1]
    frozen.flags.writeable = False
    for a in (whole, whole[1], whole[:, 1], whole[::-1], frozen, np.array(3, np.float32), np.zeros((0, 3)),
              whole.view(np.recarray)):
        assert address(a) == a.ctypes.data


def test_what_is_not_there_is_an_error(library, tmp_path):
    with pytest.raises(CompileError, match="no function 'nothing'"):
        library.function("nothing")
    (tmp_path / "bad.so").write_text("not a library")
    with pytest.raises(CompileError, match="cannot be loaded"):
        Library(tmp_path / "bad.so")


def test_signatures_of_one_function_do_not_mix(library):
    first = library.function("offset", ctypes.c_int64, ctypes.c_int64)
    second = library.function("offset", ctypes.c_int32, ctypes.c_int64)
    assert first.restype is ctypes.c_int64 and second.restype is ctypes.c_int32


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="this system does not list what is mapped")
def test_closing_unloads_the_code():
    entry = build(SOURCE + "// closed\n")
    library = Library(entry.library)

    def mapped():
        with open("/proc/self/maps") as maps:
            return entry.library.parent.name in maps.read()

    assert mapped()
    library.close()
    assert not mapped()
