"""The direct way into a session: the same answers and errors as the long way, whatever is fed, from any thread."""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict

import numpy as np
import pytest

from gesher.base.errors import RunError
from gesher.codec import encode
from gesher.codec.text import parse_model
from gesher.compiler import direct, toolchain
from gesher.compiler.session import CompiledSession, Options, compile
from gesher.ir.files import from_bytes

pytestmark = [
    pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}"),
    pytest.mark.skipif(direct._library() is None, reason="this Python is not as the direct way takes it to be"),
]

ADD = "g (float[n, 3] a, float[n, 3] b) => (float[n, 3] d, float[n, 3] c) { c = Add(a, b) d = Mul(a, b) }"


def made(body: str) -> CompiledSession:
    model = from_bytes(encode(parse_model(f'<ir_version: 8, opset_import: ["": 17]> {body}')))
    return compile(model, Options(threads=1))


def fed(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal((rows, 3)).astype(np.float32) for name in "ab"}


def goes_directly(session: CompiledSession, feeds) -> bool:
    return session._quick.direct.function(feeds) is not None


def right(session: CompiledSession, feeds) -> None:
    got = session.run(feeds)
    assert list(got) == ["d", "c"]
    a, b = (np.asarray(feeds[name], np.float32) for name in "ab")
    np.testing.assert_array_equal(got["c"], a + b)
    np.testing.assert_array_equal(got["d"], a * b)


def test_shapes_that_were_seen_go_directly_and_give_fresh_arrays():
    session = made(ADD)
    for rows in (2, 5, 0):
        feeds = fed(rows)
        assert not goes_directly(session, feeds)
        right(session, feeds)
        assert goes_directly(session, feeds)
        right(session, feeds)
    first, second = session.run(fed(2)), session.run(fed(2))
    assert first["c"] is not second["c"] and first["c"].flags.owndata and first["c"].flags.writeable
    first["c"][:] = 7
    right(session, fed(2, 1))
    # Names in another order are the same names.
    right(session, dict(reversed(fed(5).items())))


def test_more_shapes_than_are_remembered():
    session = made(ADD)
    for _ in range(2):
        for rows in range(direct.MOST_SEEN + 4):
            right(session, fed(rows, rows))


def test_anything_else_goes_the_long_way():
    session = made(ADD)
    feeds = fed(4)
    right(session, feeds)

    class Named(np.ndarray):
        pass

    odd = [
        {**feeds, "a": feeds["a"][::-1]}, {**feeds, "a": np.asfortranarray(feeds["a"])},
        {**feeds, "a": feeds["a"].view(Named)}, {**feeds, "a": feeds["a"].tolist()},
        {**feeds, "a": np.frombuffer(b"x" + feeds["a"].tobytes(), np.uint8)[1:].view(np.float32).reshape(4, 3)},
        OrderedDict(feeds),
    ]
    for other in odd:
        assert not goes_directly(session, other)
        right(session, other)


def test_errors_are_those_of_the_long_way():
    session = made(ADD)
    feeds = fed(4)
    right(session, feeds)
    for wrong, told in [({"a": feeds["a"]}, "b"), ({**feeds, "z": feeds["a"]}, "z"),
                        ({**feeds, "a": feeds["a"].astype(np.float64)}, "float64"),
                        ({**feeds, "a": feeds["a"][0]}, "'a'"), ({**feeds, "a": feeds["a"][:3]}, "n"), ({}, "a")]:
        with pytest.raises(RunError, match=told):
            session.run(wrong)
    with pytest.raises((RunError, TypeError, AttributeError)):
        session.run(None)
    right(session, feeds)


def test_a_run_that_fails_tells_why_every_time():
    session = made("g (float[4] x, int64[2] i) => (float[2] y) { y = Gather(x, i) }")
    x = np.arange(4, dtype=np.float32)
    good, bad = {"x": x, "i": np.array([1, -1])}, {"x": x, "i": np.array([1, 9])}
    assert session.run(good)["y"].tolist() == [1, 3]
    for _ in range(3):
        with pytest.raises(RunError, match="index"):
            session.run(bad)
        assert session.run(good)["y"].tolist() == [1, 3]


def test_values_that_conditions_hang_on_are_held_to():
    session = made("""g (float[n] x, int64 k) => (float[n] y) {
        limit = Constant <value_int: int = 10> ()
        c = Less(k, limit)
        y = If (c) <then_branch = t () => (float[n] u) { u = Neg(x) },
                    else_branch = e () => (float[n] v) { v = Exp(x) }>
    }""")
    x = np.zeros(2, np.float32)
    for _ in range(2):
        assert session.run({"x": x + 1, "k": np.array(3)})["y"].tolist() == [-1, -1]
        assert session.run({"x": x, "k": np.array(30)})["y"].tolist() == [1, 1]
        assert session.run({"x": x + 2, "k": np.array(4)})["y"].tolist() == [-2, -2]


def test_a_closed_session_does_not_run():
    session = made(ADD)
    feeds = fed(3)
    right(session, feeds)
    function = session._quick.direct.function
    session.close()
    assert function(feeds) is None
    with pytest.raises(RunError, match="closed"):
        session.run(feeds)


def test_nothing_is_kept_and_nothing_lost():
    session = made(ADD)
    feeds = fed(3)
    right(session, feeds)
    held = [*feeds.values(), feeds, np.dtype(np.float32), session.outputs[0]]
    before = [sys.getrefcount(x) for x in held]
    for _ in range(500):
        session.run(feeds)
        session._quick.direct.function({})
    # One more, for the name of the loop.
    assert all(sys.getrefcount(x) - n <= 1 for x, n in zip(held, before))
    assert sys.getrefcount(session.run(feeds)["c"]) <= 2


def test_threads_share_a_session():
    session = made(ADD)
    wrong: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for i in range(200):
                right(session, fed(1 + (seed + i) % 5, seed))
        except BaseException as e:
            wrong.append(e)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_without_the_function_sessions_go_on(monkeypatch):
    monkeypatch.setattr(direct, "_library", lambda: None)
    session = made(ADD)
    for _ in range(3):
        right(session, fed(4))
    assert session._quick.direct.function is direct.nothing
