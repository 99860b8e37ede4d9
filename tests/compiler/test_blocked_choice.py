"""The choice among ways of convolving follows what was measured, and never picks what cannot run."""

import pytest

from gesher.compiler.kernels.blocked_choice import Picture, cycles, largest_tiles, variant, weight_bytes


@pytest.mark.parametrize(("O", "C", "size", "expected"), [
    (64, 64, 56, "winograd4"), (16, 16, 320, "winograd4"), (512, 512, 7, "winograd4"), (256, 256, 14, "winograd4"),
    (32, 32, 2, "winograd2"), (512, 512, 1, "direct"), (1, 1, 30, "direct"),
])
def test_the_quickest_as_measured(O, C, size, expected):
    assert variant(O, C, (3, 3), (1, 1), (1, 1), (size, size), 1) == expected


@pytest.mark.parametrize(("O", "C", "size", "expected"), [
    (32, 16, 160, "winograd4"), (128, 64, 40, "winograd4"), (256, 256, 14, "winograd4"), (512, 512, 7, "direct"),
])
def test_the_quickest_of_stride_two_as_measured(O, C, size, expected):
    assert variant(O, C, (3, 3), (2, 2), (1, 1), (size, size), 1) == expected


def test_only_three_by_three_goes_by_winograd():
    for kernel, stride, dilation in (((1, 1), (1, 1), (1, 1)), ((3, 3), (1, 2), (1, 1)), ((3, 3), (1, 1), (2, 2)),
                                     ((3, 3), (3, 3), (1, 1)), ((5, 5), (1, 1), (1, 1))):
        assert variant(64, 64, kernel, stride, dilation, (56, 56), 1) == "direct"


def test_two_threads_are_never_slower():
    for tile in (0, 2, 4):
        for C, size in ((16, 300), (64, 56), (512, 7)):
            assert cycles(C, C, (size, size), tile, 2, 16) <= cycles(C, C, (size, size), tile, 1, 16)


def test_weights_stay_within_bounds_where_bytes_cost_the_least_time():
    sizes = [(64, 160), (128, 80), (256, 40), (512, 20), (512, 10)]
    pictures = [Picture(c, c, (3, 3), (1, 1), (1, 1), (n, n)) for c, n in sizes for _ in range(3)]
    own = sum(36 * p.O * p.C for p in pictures)
    quickest = [int(v[-1]) for p in pictures if (v := variant(p.O, p.C, p.kernel, p.stride, p.dilation, p.out, 1))]

    def total(tiles):
        return sum(weight_bytes(p.O, p.C, t, 1, 16) for p, t in zip(pictures, tiles))

    assert total(quickest) > 3 * own
    found = [min(t, q) for t, q in zip(largest_tiles(pictures, 0, 1), quickest)]
    assert total(found) <= 2.75 * own
    # Where a picture has many places, its weights are few and its products many.
    assert found[:9] == quickest[:9] and min(found[9:]) < 4
    for p, t in zip(pictures, found):
        assert variant(p.O, p.C, p.kernel, p.stride, p.dilation, p.out, 1, largest=t) == (f"winograd{t}" if t
                                                                                        else "direct")
