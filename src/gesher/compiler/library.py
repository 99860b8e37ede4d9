"""Calling what was compiled: a shared library, its functions, a pool of threads, and the one struct of a call.

The calling convention. A compiled model exports functions of one form, `int f(const GsCall* call)`; everything that a
run needs stands in the struct (`runtime/gs_base.h` is the other side of it). The struct is filled once per session; a
run rewrites the pointers that changed and passes one address, so that a call costs well under a microsecond. A
function returns 0, or an error code with a text in `message`.

What a reader would guess wrong: loading the same file twice gives the same library with the same static variables.
Generated code therefore has none that change; whatever a session owns lies in its struct, its arena and its pool.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import CompileError, RunError

MESSAGE_BYTES = 512


class GsCall(ctypes.Structure):
    """The C struct `GsCall`, field by field."""

    _fields_ = (
        ("inputs", ctypes.POINTER(ctypes.c_void_p)),
        ("outputs", ctypes.POINTER(ctypes.c_void_p)),
        ("weights", ctypes.c_void_p),
        ("arena", ctypes.c_void_p),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
        ("pool", ctypes.c_void_p),
        ("times", ctypes.POINTER(ctypes.c_int64)),
        ("message", ctypes.c_char_p),
        ("message_bytes", ctypes.c_int64),
    )


class Library:
    """A shared library of ours, loaded. Its code stays in the process until `close`."""

    def __init__(self, path: Path):
        self.path = path
        self._dll: Any
        try:
            # Now and local: an open symbol shows here and not in the middle of a run, and models do not see each other.
            self._dll = ctypes.CDLL(str(path), mode=os.RTLD_NOW | os.RTLD_LOCAL if hasattr(os, "RTLD_NOW") else 0)
        except OSError as error:
            raise CompileError(f"the compiled library cannot be loaded: {error}", place=[str(path)]) from error

    def function(self, name: str, result: Any = ctypes.c_int, *arguments: Any) -> Any:
        """The exported function `name` with its C signature set.

        Raises:
            CompileError: the library has no such function.
        """
        try:
            # Indexing makes a new function object; attributes are shared, and so would be their signatures.
            found = self._dll[name]
        except AttributeError as error:
            raise CompileError(f"the compiled library has no function {name!r}", place=[str(self.path)]) from error
        found.restype, found.argtypes = result, list(arguments)
        return found

    def close(self) -> None:
        """Unload the code. Nothing of it may run or be called again; pools must have been closed before."""
        if self._dll is not None:
            handle, self._dll = self._dll._handle, None
            if hasattr(os, "RTLD_NOW"):
                import _ctypes

                _ctypes.dlclose(handle)


class Pool:
    """Exactly `threads` threads, the caller's among them, that run a compiled model's loops.

    The threads start when first needed; a pool of one never starts any. After a fork the child's pool starts its own.
    Runs in two Python threads at once are right (the second does its loops alone), but give each its own pool to be
    quick.
    """

    def __init__(self, library: Library, threads: int, *, spin_microseconds: int = 50):
        if threads < 1:
            raise RunError(f"a session needs at least one thread, not {threads}")
        self.threads = threads
        make = library.function("gs_pool_create", ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
        destroy = library.function("gs_pool_destroy", None, ctypes.c_void_p)
        self._forked = library.function("gs_pool_forked", None, ctypes.c_void_p)
        self.address: int | None = make(threads, spin_microseconds)
        if not self.address:
            raise RunError(f"there is no memory for a pool of {threads} threads")
        self._library = library  # the code must outlive the pool
        self._finalizer = weakref.finalize(self, destroy, self.address)
        _POOLS.add(self)

    def close(self) -> None:
        """Stop the threads and wait for them."""
        self._finalizer()
        self.address = None

    def after_fork(self) -> None:
        if self.address:
            self._forked(self.address)


_POOLS: weakref.WeakSet[Pool] = weakref.WeakSet()


def _after_fork() -> None:
    for pool in list(_POOLS):
        pool.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Call:
    """One session's `GsCall`, filled once and reused.

    Args:
        inputs, outputs: how many pointers of each.
        dims: how many symbolic dims.
        steps: how many numbers C adds to when `profile` is on, two for each step that is timed (0: none).

    Writing `call.inputs[i] = address(array)` is the quick way; `call.dims[i] = 4` likewise. The arrays behind the
    addresses must be kept alive by the caller, C-contiguous and of the right type: nothing is checked here.
    """

    __slots__ = ("__weakref__", "_message", "_pool", "_struct", "dims", "inputs", "lock", "outputs", "pointer", "times")

    def __init__(self, inputs: int, outputs: int, dims: int = 0, steps: int = 0):
        self.inputs = (ctypes.c_void_p * max(inputs, 1))()
        self.outputs = (ctypes.c_void_p * max(outputs, 1))()
        self.dims = (ctypes.c_int64 * max(dims, 1))()
        self.times = (ctypes.c_int64 * max(steps, 1))()
        self._message = ctypes.create_string_buffer(MESSAGE_BYTES)
        self._pool: Pool | None = None
        self.lock = threading.Lock()
        self._struct = GsCall()
        self._struct.inputs = ctypes.cast(self.inputs, ctypes.POINTER(ctypes.c_void_p))
        self._struct.outputs = ctypes.cast(self.outputs, ctypes.POINTER(ctypes.c_void_p))
        self._struct.dims = ctypes.cast(self.dims, ctypes.POINTER(ctypes.c_int64))
        self._struct.message = ctypes.cast(self._message, ctypes.c_char_p)
        self._struct.message_bytes = MESSAGE_BYTES
        self.pointer = ctypes.addressof(self._struct)

    def weights(self, base: int) -> None:
        """The address of the packed weights."""
        self._struct.weights = base

    def arena(self, base: int) -> None:
        """The address of the working memory."""
        self._struct.arena = base

    def pool(self, pool: Pool | None) -> None:
        """The threads to use; None: the caller's alone."""
        self._pool = pool
        self._struct.pool = pool.address if pool else None

    def profile(self, on: bool) -> None:
        """Whether the nanoseconds and turns of each step are added to `times`, by code built with `-DGS_TIMED`."""
        self._struct.times = ctypes.cast(self.times, ctypes.POINTER(ctypes.c_int64)) if on else None

    def check(self, code: int) -> None:
        """Raise a `RunError` with the function's message where `code` is not 0."""
        if code:
            told = self._message.value.decode(errors="replace")
            self._message.value = b""
            raise RunError(told or f"the compiled model stopped with code {code}")


def entry_point(library: Library, name: str = "gs_run") -> Any:
    """An exported `int name(const GsCall*)`; call it with `Call.pointer`."""
    return library.function(name, ctypes.c_int, ctypes.c_void_p)


def _address_told(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _address_read(array: np.ndarray) -> int:
    return _pointer_at(id(array) + _HEAD).value or 0


_pointer_at = ctypes.c_void_p.from_address
_HEAD = object.__basicsize__


def _fields_are_where_we_think() -> bool:
    """Whether an array's first field after the object's head is its data pointer, as numpy's ABI has it since 1.0."""
    if np.ndarray.__basicsize__ < _HEAD + ctypes.sizeof(ctypes.c_void_p):
        return False
    whole: np.ndarray = np.zeros((2, 3))
    return all(_address_read(a) == _address_told(a) for a in (whole, whole[1], whole[:, 1], np.arange(7)))


# Reading the field takes 0.1 microseconds, asking numpy for it 0.8: that is half of a small model's run.
_address = _address_read if _fields_are_where_we_think() else _address_told


def address(array: np.ndarray) -> int:
    """Where the elements of `array` begin. It must be an array: a numpy scalar is none, and that is not checked.

    >>> a = np.zeros((2, 3)); address(a[1]) - address(a)
    24
    """
    return _address(array)
