"""The shortest way into a session: a Python function in C (runtime/gs_python.h) for shapes that were seen before.

It is told of what `quick` has found out, and gives None for anything else: other shapes, other types, arrays that are
not contiguous, feeds that are no plain dict, a run that fails. What a reader would guess wrong: it links to nothing. C
is handed the addresses of what it calls, and before that the layout of arrays that it takes for granted is tried out;
where anything is not as expected (another Python than CPython, one without the global lock), sessions go on by
`ctypes`.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from gesher.base import knobs
from gesher.base.errors import GesherError

from .library import GsCall, Library
from .segment import Segment

MOST_SEEN, MOST_DIMS, MOST_PORTS = 16, 8, 32
# Takes one argument (METH_O of Python's methodobject.h).
_ONE_ARGUMENT = 8
# Where numpy's table of functions has PyArray_NewFromDescr; these places never change.
_NEW_FROM_DESCR = 94

Function = Callable[[Any], "dict[str, np.ndarray] | None"]


def nothing(feeds: Any) -> None:
    """What stands for the function until there is one."""
    return


class _Python(ctypes.Structure):
    """The C struct `GsPython`: addresses."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in (
        "dict_type", "array_type", "none", "dict_size", "dict_get", "dict_new", "dict_set", "call", "take", "drop",
        "save_thread", "restore_thread", "clear", "tuple_get", "number", "new_array"))


# What the fields are called in Python's interface.
_NAMES = {"dict_size": "PyDict_Size", "dict_get": "PyDict_GetItemWithError", "dict_new": "PyDict_New",
          "dict_set": "PyDict_SetItem", "call": "PyObject_CallNoArgs", "take": "Py_IncRef", "drop": "Py_DecRef",
          "save_thread": "PyEval_SaveThread", "restore_thread": "PyEval_RestoreThread", "clear": "PyErr_Clear",
          "tuple_get": "PyTuple_GetItem", "number": "PyLong_AsVoidPtr"}


class _Port(ctypes.Structure):
    """The C struct `GsPort`."""

    _fields_ = (("name", ctypes.c_void_p), ("descr", ctypes.c_void_p), ("nd", ctypes.c_int64),
                ("dims", ctypes.c_int64 * MOST_DIMS), ("value", ctypes.c_char_p), ("value_bytes", ctypes.c_int64),
                ("slot", ctypes.c_int64))


class _Seen(ctypes.Structure):
    """The C struct `GsSeen`."""

    _fields_ = (("inputs", ctypes.POINTER(_Port)), ("outputs", ctypes.POINTER(_Port)),
                ("sizes", ctypes.POINTER(ctypes.c_int64)), ("n_sizes", ctypes.c_int64))


class _Direct(ctypes.Structure):
    """The C struct `GsDirect`."""

    _fields_ = (("acquire", ctypes.c_void_p), ("release", ctypes.c_void_p), ("run", ctypes.c_void_p),
                ("call", ctypes.POINTER(GsCall)), ("n_inputs", ctypes.c_int64), ("n_outputs", ctypes.c_int64),
                ("n_seen", ctypes.c_int64), ("seen", _Seen * MOST_SEEN))


class _MethodDef(ctypes.Structure):
    """Python's `PyMethodDef`."""

    _fields_ = (("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int),
                ("doc", ctypes.c_char_p))


class _Array(ctypes.Structure):
    """The C struct `GsArray`: the head of numpy's arrays."""

    _fields_ = (("count", ctypes.c_ssize_t), ("type", ctypes.c_void_p), ("data", ctypes.c_void_p),
                ("nd", ctypes.c_int), ("dims", ctypes.POINTER(ctypes.c_ssize_t)),
                ("strides", ctypes.POINTER(ctypes.c_ssize_t)), ("base", ctypes.c_void_p), ("descr", ctypes.c_void_p),
                ("flags", ctypes.c_int))


@cache
def _library() -> Library | None:
    """The function in C, ready; None where this Python or numpy is not as it takes them to be."""
    from .build import build

    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED") \
            or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        made = _new_array_address()
        if made is None or not _arrays_are_where_we_think():
            return None
        library = Library(build('#include "gs_python.h"\n').library)
        python = _Python(dict_type=id(dict), array_type=id(np.ndarray), none=id(None), new_array=made,
                         **{field: _address_of(name) for field, name in _NAMES.items()})
        library.function("gs_python_is", None, ctypes.POINTER(_Python))(ctypes.byref(python))
    except (AttributeError, GesherError) as e:
        knobs.debug(1, f"sessions are called by ctypes: {e}")
        return None
    return library


def _address_of(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def _new_array_address() -> int | None:
    """The address of numpy's PyArray_NewFromDescr, if it makes the array that it is asked for."""
    module = getattr(np, "_core", None) or np.core
    capsule = module._multiarray_umath._ARRAY_API
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    table = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(_pointer(pointer))(capsule, None)
    if not table:
        return None
    address = ctypes.cast(table, ctypes.POINTER(ctypes.c_void_p))[_NEW_FROM_DESCR]
    if not address:
        return None
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.py_object, ctypes.c_int, ctypes.c_void_p,
                             ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)(address)
    descr, dims = np.dtype(np.float32), (ctypes.c_ssize_t * 2)(3, 5)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(descr))
    made = make(np.ndarray, descr, 2, ctypes.addressof(dims), None, None, 0, None)
    fits = type(made) is np.ndarray and made.shape == (3, 5) and made.dtype is descr and made.flags.owndata \
        and made.flags.c_contiguous and made.flags.writeable
    return address if fits else None


def _pointer(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _arrays_are_where_we_think() -> bool:
    """Whether the head of an array holds what `_Array` says, as numpy's ABI has it since 1.0."""
    if object.__basicsize__ != 2 * ctypes.sizeof(ctypes.c_void_p) or np.ndarray.__basicsize__ < ctypes.sizeof(_Array):
        return False
    whole: np.ndarray = np.zeros((2, 3, 4), np.int16)
    for a in (whole, whole[1], whole[:, 1:, ::2], np.arange(7.0), np.zeros((), bool)):
        head = _Array.from_address(id(a))
        contiguous = head.flags & 1 != 0, head.flags & 0x100 != 0
        if head.type != id(np.ndarray) or head.data != a.ctypes.data or head.nd != a.ndim or head.descr != id(a.dtype) \
                or head.dims[:a.ndim] != list(a.shape) or contiguous != (a.flags.c_contiguous, a.flags.aligned):
            return False
    return True


class Direct:
    """One session's function, and the sizes that it knows.

    Args:
        lock: of the session, an RLock; it is held while a run goes on.
        inputs, outputs: names, in the session's order.
        dtypes: of the inputs.

    Attributes:
        function: takes the feeds, gives the outputs by name or None.
    """

    def __init__(self, lock: Any, inputs: Sequence[str], dtypes: Sequence[np.dtype[Any]], outputs: Sequence[str]):
        self.names, self.dtypes, self.results = list(inputs), list(dtypes), list(outputs)
        self.function: Function = nothing
        self._lock = lock
        self._state = _Direct()
        self._segment: Segment | None = None
        # What C points at.
        self._kept: list[Any] = [self._state]

    def add(self, segment: Segment, shapes: Sequence[tuple[int, ...]], values: Sequence[bytes | None],
            slots: Sequence[int], sizes: Sequence[int], results: Sequence[tuple[int, ...]],
            places: Sequence[int]) -> None:
        """Let runs of these shapes go the direct way. The session's lock is held.

        Args:
            shapes, values, slots: of each input its shape, the bytes that it must hold (None: any), and where the
                segment has it (-1: nowhere).
            sizes: of the program's symbols, in order.
            results, places: of each output its shape, and where the segment has it.
        """
        state = self._state
        if self._segment is None:
            self._begin(segment)
        if self.function is nothing or segment is not self._segment or state.n_seen >= MOST_SEEN \
                or any(len(s) > MOST_DIMS for s in (*shapes, *results)):
            return
        segment_types = [b.dtype.numpy for b in segment.program.outputs]
        inputs = self._ports(self.names, self.dtypes, shapes, values, slots)
        outputs = self._ports(self.results, [segment_types[i] for i in places], results, [None] * len(places), places)
        held = (ctypes.c_int64 * max(len(sizes), 1))(*sizes)
        self._kept += [inputs, outputs, held]
        state.seen[state.n_seen] = _Seen(inputs, outputs, held, len(sizes))
        state.n_seen += 1

    def forget(self) -> None:
        """Know no sizes any more. The session's lock is held."""
        self._state.n_seen = 0

    def close(self) -> None:
        """Leave everything to Python from now on. The session's lock is held."""
        self._state.n_seen = 0
        self.function = nothing

    def _begin(self, segment: Segment) -> None:
        self._segment = segment
        if segment.profile is not None or max(len(self.names), len(self.results)) > MOST_PORTS:
            return
        library = _library()
        if library is None:
            return
        acquire, release = self._lock.acquire, self._lock.release
        state = self._state
        state.acquire, state.release = id(acquire), id(release)
        state.run, state.call = segment.entry, ctypes.cast(segment.call.pointer, ctypes.POINTER(GsCall))
        state.n_inputs, state.n_outputs = len(self.names), len(self.results)
        method = _MethodDef(b"run", _pointer(library.function("gs_direct")), _ONE_ARGUMENT, None)
        self._kept += [acquire, release, segment, method, library, self.names, self.results, self.dtypes]
        # The function keeps its tuple, and that all that C points at.
        bound = (ctypes.addressof(state), self._kept)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
            _address_of("PyCFunction_NewEx"))
        self.function = make(ctypes.addressof(method), bound, None)

    def _ports(self, names: Sequence[str], dtypes: Sequence[np.dtype[Any]], shapes: Sequence[tuple[int, ...]],
               values: Sequence[bytes | None], slots: Sequence[int]) -> Any:
        ports = (_Port * max(len(names), 1))()
        for port, name, dtype, shape, value, slot in zip(ports, names, dtypes, shapes, values, slots):
            port.name, port.descr, port.nd, port.slot = id(name), id(dtype), len(shape), slot
            port.dims[:len(shape)] = shape
            if value is not None:
                port.value, port.value_bytes = value, len(value)
            self._kept.append((dtype, value))
        return ports

