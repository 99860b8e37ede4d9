"""Blocked channels: the same numbers, in the layout of vectors, where pictures pass from convolution to convolution."""

from __future__ import annotations

import numpy as np
import pytest

from gesher.base.dtypes import FLOAT, INT64
from gesher.compiler import cpu, target, toolchain
from gesher.compiler.convolutions import BlockedConv
from gesher.compiler.layout import blocked_layout
from gesher.compiler.plan import prepared
from gesher.compiler.segment import compile_exprs
from gesher.compiler.steps import KernelStep
from gesher.ops.places import mixed
from gesher.primitives import Builder, Expr, evaluate, walk
from gesher.symbolic import sym

needs_compiler = pytest.mark.skipif(toolchain.missing() is not None, reason=f"no C compiler: {toolchain.missing()}")
n, h = sym("n"), sym("h", min=8)


class Net:
    """Draws weights and layers."""

    def __init__(self, seed: int = 0):
        self.p, self.rng = Builder(), np.random.default_rng(seed)

    def weight(self, *shape: int) -> Expr:
        w = self.rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        return self.p.constant(w.astype(np.float32))

    def conv(self, x: Expr, out: int, k: int = 3, stride: int = 1, groups: int = 1, pad: int | None = None,
             dilation: int = 1) -> Expr:
        axes, around = x.rank - 2, k // 2 * dilation if pad is None else pad
        made = self.p.convolve(x, self.weight(out, x.shape[1] // groups, *[k] * axes), [stride] * axes,
                               [(around, around)] * axes, [dilation] * axes, groups)
        return made + self.p.constant(self.rng.standard_normal((out, *[1] * axes)).astype(np.float32))


def a_net(seed: int) -> tuple[Expr, list[Expr]]:
    """Layers of all kinds around convolutions, and everything that leaves them."""
    net = Net(seed)
    p = net.p
    x = p.input("x", FLOAT, (n, 3, h, 19))
    a = p.max(net.conv(x, 24, stride=2), 0.0)
    d = net.conv(a, 24, groups=24)
    d = d * p.sigmoid(d)
    gate = p.mean(d, (2, 3), keepdims=True)
    gate = p.sigmoid(net.conv(p.max(net.conv(gate, 6, 1), 0.0), 24, 1))
    e = net.conv(d * gate, 40, 1)
    f = net.conv(e, 40) + e
    per_channel = p.constant(net.rng.standard_normal((1, 40, 1, 1)).astype(np.float32))
    f = p.select(p.gt(f, 0.0), f, f * per_channel)
    most = p.window(f, "max", (3, 3), (2, 2), ((1, 1), (1, 1)))
    mean = p.window(f, "sum", (2, 2), (1, 1), ((0, 0), (0, 0))) / 4.0
    joined = net.conv(p.concat([p.take(f, 1, 0, 32), e], 1), 5, 1)
    twice = p.gather(p.gather(f, p.constant(np.arange(20) // 2), 3), p.constant(np.arange(8)[::-1].copy()), 2)
    padded = net.conv(p.pad(p.take(f, 3, 1, 9, 2), (0, 0, 1, 0), (0, 0, 0, 2), 0.5), 17)
    return x, [joined, most, mean, p.take(f, 1, 16, 40), p.transpose(joined, (0, 2, 3, 1)), p.mean(f, (2, 3)),
               p.mean(f, (1,)), p.amax(f, (2, 3), keepdims=True), twice, padded, p.take(f, 1, 3, 30)]


def holds(x: Expr, roots: list[Expr], new: list[Expr], picture: np.ndarray) -> None:
    for want, got in zip(evaluate(roots, {"x": picture}), evaluate(new, {"x": picture})):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_net_means_the_same_in_blocks():
    x, roots = a_net(1)
    rng = np.random.default_rng(2)
    for isa in cpu.here().isas():
        with target.building_for(isa):
            new = blocked_layout(roots)
        names = [e.params["name"] for e in walk(new) if e.prim == "composite"]
        assert names.count("blocked_convolve") == sum(e.prim == "convolve" for e in walk(roots))
        holds(x, roots, new, rng.standard_normal((2, 3, 17, 19)).astype(np.float32))


def test_convolutions_in_a_row_change_the_layout_once():
    net = Net()
    x = net.p.input("x", FLOAT, (1, 3, 16, 16))
    y = x
    for channels in (32, 32, 48, 32):
        y = net.p.max(net.conv(y, channels), 0.0)
    names = [e.params["name"] for e in walk(blocked_layout([y])) if e.prim == "composite"]
    assert names == ["blocked_convolve"] * 4 + ["to_plain"]


# Measured against the plain layout: (channels, outputs, taps of a side, stride, groups, side of the picture).
@pytest.mark.parametrize(("gains", "of"), [
    (True, (64, 64, 3, 1, 1, 16)), (True, (64, 16, 3, 1, 1, 56)), (True, (64, 64, 3, 2, 1, 56)),
    (True, (24, 24, 5, 2, 1, 56)), (True, (64, 64, 5, 1, 1, 28)), (True, (3, 32, 3, 2, 1, 112)),
    (True, (512, 512, 1, 1, 1, 7)), (True, (256, 256, 1, 1, 1, 28)), (False, (256, 256, 1, 1, 1, 56)),
    (True, (64, 64, 3, 1, 64, 16)), (True, (64, 64, 3, 1, 4, 56)), (True, (128, 128, 3, 1, 32, 28)),
    (False, (64, 64, 1, 1, 1, 56)), (False, (64, 64, 1, 1, 1, 16)), (False, (40, 40, 5, 1, 1, 28)),
    (False, (3, 32, 3, 1, 1, 112)), (False, (3, 768, 32, 32, 1, 224)), (False, (4, 4, 3, 1, 4, 28))])
def test_a_convolution_by_itself_changes_the_layout_where_that_pays(gains, of):
    channels, out, k, stride, groups, side = of
    net = Net()
    root = net.conv(net.p.input("x", FLOAT, (1, channels, side, side)), out, k, stride, groups)
    with target.building_for(cpu.isa("avx512")):
        assert (blocked_layout([root]) != [root]) == gains


@pytest.mark.parametrize(("gains", "of"), [(True, (64, 32, 4, 2)), (True, (64, 64, 3, 1)), (True, (32, 16, 5, 2)),
                                           (False, (256, 128, 3, 2)), (False, (24, 24, 2, 2)), (False, (32, 1, 2, 2))])
def test_a_transposed_convolution_by_itself_does_where_its_phases_are_full(gains, of):
    channels, out, k, stride = of
    net = Net()
    x = net.p.input("x", FLOAT, (1, channels, 14, 14))
    root = net.p.convolve_transposed(x, net.weight(channels, out, k, k), (stride,) * 2, ((0, 0),) * 2, (1, 1))
    with target.building_for(cpu.isa("avx512")):
        assert (blocked_layout([root]) != [root]) == gains


def test_what_has_no_blocked_kernel_stays_plain():
    net = Net()
    p, x = net.p, net.p.input("x", FLOAT, (1, 8, 16, 16))
    grouped = net.conv(x, 12, groups=4)
    fed = p.convolve(grouped, p.input("w", FLOAT, (4, 12, 3, 3)), (1, 1), ((1, 1), (1, 1)), (1, 1))
    assert blocked_layout([fed]) == [fed]


@needs_compiler
@pytest.mark.parametrize("isa", [i.name for i in cpu.here().isas()])
def test_a_net_runs_in_blocks(isa):
    x, roots = a_net(3)
    segment = compile_exprs([x], roots, isa=cpu.isa(isa))
    rng = np.random.default_rng(4)
    for size in (16, 17):
        picture = rng.standard_normal((2, 3, size, 19)).astype(np.float32)
        want = evaluate(roots, {"x": picture})
        for a, b in zip(segment.run([picture], {n: 2, h: size}), want):
            np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    ran = [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]
    assert not [f for f in ran if f in ("gs_conv2d_f32", "gs_depthwise2d_f32", "gs_window2d_f32")]
    assert {"gs_blocked_conv_f32", "gs_blocked_winograd_f32", "gs_blocked_depthwise_f32",
            "gs_blocked_window_f32"} <= set(ran)


@needs_compiler
@pytest.mark.parametrize("length", [9, 40])
def test_signals_of_one_axis_run_in_blocks(length):
    net = Net(5)
    p = net.p
    x = p.input("x", FLOAT, (n, 20, length))
    y = p.max(net.conv(x, 32, 5, stride=2), 0.0)
    y = net.conv(p.window(y, "max", (3,), (1,), ((1, 1),)), 18, 3, dilation=2)
    segment = compile_exprs([x], [y])
    fed = np.random.default_rng(6).standard_normal((3, 20, length)).astype(np.float32)
    np.testing.assert_allclose(segment.run([fed], {n: 3})[0], evaluate([y], {"x": fed})[0], rtol=1e-4, atol=1e-4)


@needs_compiler
def test_a_view_of_other_sizes_is_convolved_by_its_own():
    """The kernel reads the memory of (n, samples), and the sizes of (n, 1, samples)."""
    net, samples = Net(8), sym("samples", min=64)
    x = net.p.input("x", FLOAT, (n, samples))
    y = net.conv(net.conv(net.p.reshape(x, (n, 1, samples)), 34, 16, stride=8, pad=0), 16, 3)
    segment = compile_exprs([x], [y])
    fed = np.random.default_rng(9).standard_normal((2, 80)).astype(np.float32)
    np.testing.assert_allclose(segment.run([fed], {n: 2, samples: 80})[0], evaluate([y], {"x": fed})[0],
                               rtol=1e-4, atol=1e-4)


@needs_compiler
@pytest.mark.parametrize("isa", [i.name for i in cpu.here().isas()])
def test_wide_convolutions_of_single_taps_are_made_by_seven_products(isa):
    net = Net(12)
    p = net.p
    x = p.input("x", FLOAT, (n, 128, h, 19))
    y = p.max(net.conv(x, 128, 1), 0.0)
    gate = p.sigmoid(p.mean(y, (2, 3), keepdims=True))
    roots = [p.min(net.conv(y, 128, 1, stride=2), 6.0), net.conv(y * gate, 128, 1), net.conv(y, 128, 1) + x]
    segment = compile_exprs([x], roots, isa=cpu.isa(isa))
    fed = np.random.default_rng(13).standard_normal((2, 128, 12, 19)).astype(np.float32)
    for a, b in zip(segment.run([fed], {n: 2, h: 12}), evaluate(roots, {"x": fed})):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    ran = [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]
    # Gates go into the weights of a direct one instead.
    assert ran.count("gs_blocked_strassen_f32") == 3 and ran.count("gs_blocked_conv_f32") == 1


@needs_compiler
@pytest.mark.parametrize("isa", [i.name for i in cpu.here().isas()])
def test_narrow_groups_share_blocks(isa):
    net = Net(14)
    p, x = net.p, net.p.input("x", FLOAT, (n, 40, h, 19))
    y = net.conv(x, 40, groups=10) + x
    roots = [p.max(net.conv(y, 40, stride=2, groups=5), 0.0), net.conv(y * p.sigmoid(y), 40, 5, groups=10, dilation=2)]
    segment = compile_exprs([x], roots, isa=cpu.isa(isa))
    fed = np.random.default_rng(15).standard_normal((2, 40, 12, 19)).astype(np.float32)
    for a, b in zip(segment.run([fed], {n: 2, h: 12}), evaluate(roots, {"x": fed})):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    ran = [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]
    assert ran.count("gs_blocked_grouped_f32") == {"avx512": 3, "avx2": 2}.get(isa, 0)


def test_threads_that_share_the_memory_read_fewer_weights():
    net = Net(10)
    x = net.p.input("x", FLOAT, (1, 512, 7, 7))
    found = []
    for threads in (1, 2):
        with target.building_for(cpu.isa("avx512"), threads=threads):
            root = blocked_layout([net.conv(x, 512)])[0]
            found += [made.variant for e in walk([root]) if (made := BlockedConv.match(e)) is not None]
    assert found == ["winograd F(4x4)", "winograd F(2x2)"]


def test_planning_computes_no_weights():
    net = Net(7)
    x = net.p.input("x", FLOAT, (1, 3, 16, 16))
    root = prepared([net.conv(net.conv(x, 32), 32)])
    held = [e.params["value"] for e in walk(root) if e.prim == "constant"]
    assert all(getattr(v, "_array", None) is None for v in held)


@needs_compiler
@pytest.mark.parametrize(("kernel", "stride", "pad", "extra"), [(2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1), (3, 1, 1, 0),
                                                              (5, 3, 0, 2), (2, 1, 0, 0), (6, 2, 3, 0), (3, 3, 2, 1)])
@pytest.mark.parametrize(("axes", "out"), [(1, 21), (2, 21), (2, 2)])
def test_transposed_convolutions_are_made_by_phases(kernel, stride, pad, extra, axes, out):
    net = Net(8)
    p = net.p
    x = p.input("x", FLOAT, (n, 3, *[h, 9][:axes]))
    y = p.max(net.conv(x, 20), 0.0)
    w = p.constant((net.rng.standard_normal((20, out, *[kernel] * axes)) / 9).astype(np.float32))
    y = p.convolve_transposed(y, w, [stride] * axes, [(pad, pad)] * axes, [1] * axes, 1, [extra] * axes)
    y = net.conv(p.max(y, 0.0) if y.shape[2] != 0 else y, 8)
    segment = compile_exprs([x], [y])
    ran = [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]
    assert not [f for f in ran if "transpose2d" in f]
    for size in (8, 13):
        fed = np.random.default_rng(9).standard_normal((2, 3, *[size, 9][:axes])).astype(np.float32)
        want = evaluate([y], {"x": fed})[0]
        np.testing.assert_allclose(segment.run([fed], {n: 2, h: size})[0], want, rtol=1e-3, atol=1e-4)


def convolutions_of(segment):
    return [s for s in segment.steps if isinstance(s, KernelStep) and isinstance(s.kernel, BlockedConv)]


def silu(p, x):
    return x * p.sigmoid(x)


@needs_compiler
@pytest.mark.parametrize("isa", [i.name for i in cpu.here().isas()])
@pytest.mark.parametrize(("k", "stride", "groups"), [(1, 1, 1), (3, 1, 1), (3, 1, 24)])
def test_residuals_and_silu_are_the_kernels_own(isa, k, stride, groups):
    net = Net(14)
    p = net.p
    x = p.input("x", FLOAT, (n, 24, 18, 19))
    y = silu(p, net.conv(x, 24, 1))
    a = p.max(net.conv(y, 24, k, stride, groups) + y, 0.0)
    b = a + silu(p, net.conv(a, 24, k, stride, groups))
    # The other side of a sum brings a bias of its own, as where a ResNet's pictures become smaller.
    c = p.max(net.conv(b, 24, k, stride, groups) + net.conv(b, 24, 1), 0.0)
    root = net.conv(c, 8, 1)
    segment = compile_exprs([x], [root], isa=cpu.isa(isa))
    steps = convolutions_of(segment)
    assert sum(s.kernel.epilogue.silu for s in steps) == 2
    assert sum(s.kernel.epilogue.residual is not None for s in steps) == 3
    assert max(len(s.kernel.epilogue.biases) for s in steps) == 2 and all(s.tile is None for s in steps)
    fed = np.random.default_rng(15).standard_normal((2, 24, 18, 19)).astype(np.float32)
    np.testing.assert_allclose(segment.run([fed], {n: 2})[0], evaluate([root], {"x": fed})[0], rtol=1e-3, atol=1e-3)


@needs_compiler
def test_steps_in_another_order_are_not_taken_for_these():
    net = Net(16)
    p = net.p
    x = p.input("x", FLOAT, (n, 24, 9, 10))
    y = net.conv(x, 24, 1)
    bias = p.constant(net.rng.standard_normal((24, 1, 1)).astype(np.float32))
    roots = [net.conv(e, 8, 1) for e in (
        p.max(net.conv(y, 24, 1), 0.0) + bias, p.max(net.conv(y, 24, 1), 0.0) + y, silu(p, net.conv(y, 24, 1) + y),
        silu(p, p.max(net.conv(y, 24, 1), 0.0)), net.conv(y, 24, 1) + y + x, p.max(silu(p, net.conv(y, 24, 1)), 0.0),
        y * p.sigmoid(net.conv(y, 24, 1)), net.conv(y, 24, 1) + bias + bias * 2.0 + bias * 3.0)]
    segment = compile_exprs([x], roots)
    fed = np.random.default_rng(17).standard_normal((2, 24, 9, 10)).astype(np.float32)
    for a, b in zip(segment.run([fed], {n: 2}), evaluate(roots, {"x": fed})):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("k", [1, 3])
def test_gates_go_into_the_weights_where_that_is_less_work(k):
    net = Net(18)
    p = net.p
    x = p.input("x", FLOAT, (n, 24, h, 19))
    y = p.max(net.conv(x, 24, 3, groups=24), 0.0)
    gate = p.sigmoid(net.conv(p.mean(y, (2, 3), True), 24, 1))
    z = p.min(net.conv(y * gate, 40, k) + net.conv(x, 40, 1), 1.0)
    wide = p.max(net.conv(z, 700, 1), 0.0)
    small = p.slice(wide, (0, 0, 0, 0), (n, 700, 3, 3))
    few = net.conv(small * p.sigmoid(net.conv(p.mean(small, (2, 3), True), 700, 1)), 40, 1)
    segment = compile_exprs([x], [z, few])
    assert [s.kernel.gate is not None for s in convolutions_of(segment)].count(True) == (k == 1)
    fed = np.random.default_rng(19).standard_normal((3, 24, 17, 19)).astype(np.float32)
    for a, b in zip(segment.run([fed], {n: 3, h: 17}), evaluate([z, few], {"x": fed})):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3)


@needs_compiler
@pytest.mark.parametrize("isa", [i.name for i in cpu.here().isas()])
@pytest.mark.parametrize(("k", "stride", "groups"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 24), (5, 2, 24)])
def test_biases_and_bounds_are_the_kernels_own(isa, k, stride, groups):
    net = Net(10)
    p = net.p
    x = p.input("x", FLOAT, (n, 24, 18, 19))
    y = net.conv(x, 24, 1)
    clipped = p.min(p.max(net.conv(y, 24, k, stride, groups), -0.25), 0.5)
    root = net.conv(p.max(clipped, 0.0), 20, 1)
    segment = compile_exprs([x], [clipped, root], isa=cpu.isa(isa))
    inside = [s for s in convolutions_of(segment) if s.kernel.epilogue.clamp]
    assert [s.kernel.epilogue.clamp for s in inside] == [(-0.25, 0.5)] and all(s.tile is None for s in inside)
    fed = np.random.default_rng(11).standard_normal((2, 24, 18, 19)).astype(np.float32)
    fed[1, 3, 5, 7] = np.nan
    for a, b in zip(segment.run([fed], {n: 2}), evaluate([clipped, root], {"x": fed})):
        assert np.array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@needs_compiler
def test_what_is_no_bias_stays_an_epilogue():
    net = Net(12)
    p = net.p
    x = p.input("x", FLOAT, (n, 20, 9, 9))
    y = net.conv(x, 20)
    places = p.constant(net.rng.standard_normal((1, 1, 9, 9)).astype(np.float32))
    roots = [p.max(net.conv(y, 20) + places, 0.0), p.max(net.conv(y, 20), p.input("low", FLOAT, ())),
             net.conv(y, 20) + 2.5, p.min(p.max(net.conv(y, 20), 1.0), -1.0)]
    segment = compile_exprs([x, p.input("low", FLOAT, ())], roots)
    rng = np.random.default_rng(13)
    fed, low = rng.standard_normal((2, 20, 9, 9)).astype(np.float32), np.float32(0.25)
    want = evaluate(roots, {"x": fed, "low": low})
    for a, b in zip(segment.run([fed, np.array(low)], {n: 2}), want):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_an_enlarged_picture_stays_in_blocks():
    net = Net(4)
    p = net.p
    x = p.input("x", FLOAT, (1, 32, h, 11))
    y = net.conv(x, 32)
    for axis, size in ((2, 2 * h), (3, 22)):
        # Each place between two elements.
        place = p.iota((size, 2), 0) + p.iota((size, 2), 1)
        weights = p.constant(np.float32([0.25, 0.75])) * p.full((size, 2), 1, FLOAT)
        y = mixed(p, y, p.cast(place / 2, INT64), weights, axis)
    y = net.conv(y, 32)
    segment = compile_exprs([x], [y])
    ran = [s.kernel.function for s in segment.steps if isinstance(s, KernelStep)]
    assert ran.count("gs_mix_f32") == 2 and ran.count("gs_blocked_to_plain") <= 1, ran
    picture = np.random.default_rng(0).standard_normal((1, 32, 9, 11)).astype(np.float32)
    want = evaluate([y], {"x": picture})[0]
    np.testing.assert_allclose(segment.run([picture], {h: 9})[0], want, rtol=1e-3, atol=1e-4)
