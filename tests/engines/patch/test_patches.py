"""Patches against the dense coefficients they stand for. All numbers are small integers: sums are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.patch.patches import Patches, Places, distinct_places, kernels_of, transposed_conv
from corgi.network import layers

CHANNELS = 2


def integers(*shape: int) -> Tensor:
    """Small integers, none of them 0: a coefficient at the wrong place always shows."""
    return torch.randint(1, 9, shape).to(torch.float64) * (torch.randint(0, 2, shape) * 2 - 1)


@st.composite
def patches(draw, largest: int = 5, size: tuple[int, int] | None = None, channels: int = CHANNELS) -> Patches:
    """Rows that share places: one each, all places in turn several times, or in any order."""
    torch.manual_seed(draw(st.integers(0, 999)))
    count = draw(st.integers(1, 6))
    columns = (st.integers(0, 2), st.integers(-4, 7), st.integers(-4, 7))
    ball, top, left = (
        np.array(draw(st.lists(c, min_size=count, max_size=count)), dtype=np.int64) for c in columns
    )
    places, place = distinct_places(ball, top, left)
    if draw(st.booleans()):
        place = np.tile(np.arange(len(places)), draw(st.integers(1, 3)))
    height, width = size or (draw(st.integers(1, largest)), draw(st.integers(1, largest)))
    return Patches(integers(len(place), channels, height, width), places, place, clean=False)


shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))


def dense(rows: Patches, shape: tuple[int, int]) -> Tensor:
    """Entry by entry: the coefficients [R, C, H, W] on the value; what stands on padding is left out."""
    out = torch.zeros(len(rows.values), rows.values.shape[1], *shape, dtype=rows.values.dtype)
    for r, p in enumerate(rows.place.tolist()):
        for y in range(rows.size[0]):
            for x in range(rows.size[1]):
                at = int(rows.places.top[p]) + y, int(rows.places.left[p]) + x
                if 0 <= at[0] < shape[0] and 0 <= at[1] < shape[1]:
                    out[r, :, at[0], at[1]] = rows.values[r, :, y, x]
    return out


def assert_same_rows(found: Patches, expected: Tensor, balls: Tensor, shape: tuple[int, int]) -> None:
    assert torch.equal(dense(found, shape), expected)
    assert torch.equal(found.ball, balls)
    kept = np.stack([found.places.ball, found.places.top, found.places.left], 1)
    assert len(np.unique(kept, axis=0)) == len(kept), "places must all be different"


@given(patches(), shapes)
def test_window_is_the_field_under_every_patch(rows, shape) -> None:
    field = integers(3, CHANNELS, *shape)
    window = rows.window(field)
    assert len(window) in (len(rows.places), len(rows.values))
    found = rows.times(window)
    expected = dense(rows, shape) * field[rows.ball]
    assert_same_rows(found, expected, rows.ball, shape)
    assert torch.equal(found.values.sum((1, 2, 3)), expected.sum((1, 2, 3))), "over the edge all is 0"


@given(patches(), shapes)
def test_inside_clears_what_stands_on_padding(rows, shape) -> None:
    found = rows.inside(shape)
    assert found.clean
    assert_same_rows(found, dense(rows, shape), rows.ball, shape)
    assert torch.equal(found.values.sum((1, 2, 3)), dense(rows, shape).sum((1, 2, 3)))


@given(patches(largest=9), shapes)
def test_on_is_dense_along_axes_the_patch_covers(rows, shape) -> None:
    found = rows.on(shape)
    assert_same_rows(found, dense(rows, shape), rows.ball, shape)
    for axis, start in ((0, found.places.top), (1, found.places.left)):
        assert found.size[axis] <= shape[axis]
        if rows.size[axis] >= shape[axis]:
            assert found.size[axis] == shape[axis]
            assert not start.any()


@given(patches(), shapes)
def test_dense_covers_the_value(rows, shape) -> None:
    found = rows.dense(shape)
    assert found.size == shape
    assert_same_rows(found, dense(rows, shape), rows.ball, shape)
    assert len(found.places) == len(rows.ball.unique())


@given(patches(), shapes, st.data())
def test_plus_with_one_shift(rows, shape, data) -> None:
    down, right, height, width = (data.draw(st.integers(a, b)) for a, b in ((-3, 3), (-3, 3), (1, 4), (1, 4)))
    places = Places(rows.places.ball, rows.places.top + down, rows.places.left + right)
    other = Patches(integers(len(rows.place), CHANNELS, height, width), places, rows.place, clean=False)
    rows, other = rows.on(shape), other.on(shape)
    found = rows.plus(other, shape)
    assert_same_rows(found, dense(rows, shape) + dense(other, shape), rows.ball, shape)


@given(patches(), shapes, st.data())
def test_plus_with_a_shift_for_every_place(rows, shape, data) -> None:
    """Branches that stride differently."""
    count = len(rows.places)
    shifts = st.lists(st.integers(-3, 3), min_size=count, max_size=count)
    top, left = (start + np.array(data.draw(shifts)) for start in (rows.places.top, rows.places.left))
    places, merged = distinct_places(rows.places.ball, top, left)
    other = Patches(integers(len(rows.place), CHANNELS, 2, 3), places, merged[rows.place], clean=False)
    rows, other = rows.on(shape), other.on(shape)
    found = rows.plus(other, shape)
    assert_same_rows(found, dense(rows, shape) + dense(other, shape), rows.ball, shape)


@given(patches(), st.data())
def test_rows_chosen_negated_and_by_channel(rows, data) -> None:
    shape = (6, 6)
    expected = dense(rows, shape)
    which = torch.tensor(data.draw(st.lists(st.integers(0, len(rows.place) - 1), min_size=1)))
    assert_same_rows(rows.chosen(which), expected[which], rows.ball[which], shape)
    half = slice(0, (len(rows.place) + 1) // 2)
    assert_same_rows(rows.chosen(half), expected[half], rows.ball[half], shape)
    assert_same_rows(rows.negated(), -expected, rows.ball, shape)
    assert_same_rows(rows.absolute(), expected.abs(), rows.ball, shape)
    assert_same_rows(rows.parted([1, rows.values.shape[1] - 1])[1], expected[:, 1:], rows.ball, shape)


@st.composite
def convolutions(draw, out: int) -> layers.Conv:
    """Any geometry; stride may exceed the kernel and padding the kernel's reach."""
    groups = draw(st.sampled_from([1, 2]))
    per_group = draw(st.integers(1, 2))
    kernel, stride, dilation = ((draw(st.integers(1, 3)), draw(st.integers(1, 3))) for _ in range(3))
    padding = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    weight = integers(out, per_group, *kernel)
    return layers.Conv(weight, weight.new_zeros(out), stride, padding, dilation, groups)


@given(st.data())
def test_through_conv_is_the_adjoint(data) -> None:
    """A row on the output, as a function of the input, by automatic differentiation of the convolution."""
    rows = data.draw(patches(channels=4))
    conv = data.draw(convolutions(4))
    channels = conv.weight.shape[1] * conv.groups
    shape = data.draw(st.integers(7, 9)), data.draw(st.integers(7, 9))
    value = torch.zeros(len(rows.place), channels, *shape, dtype=torch.float64, requires_grad=True)
    output = conv(value)
    over = output.shape[2], output.shape[3]
    (expected,) = torch.autograd.grad((output * dense(rows, over)).sum(), value)
    for dtype in (torch.float32, torch.float64):
        narrow = Patches(rows.values.to(dtype), rows.places, rows.place, clean=False)
        layer = layers.Conv(
            conv.weight.to(dtype), conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups
        )
        found = narrow.inside(over).through_conv(layer, shape)
        assert found.size[0] <= shape[0]
        assert found.size[1] <= shape[1]
        assert_same_rows(found.inside(shape), expected.to(dtype), rows.ball, shape)


@pytest.mark.parametrize("dense", [0, 2**15], ids=["convolution", "matrix"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transposed_convolution(dense, dtype, monkeypatch) -> None:
    """By one matrix, and by a convolution of rows whose number is rounded up."""
    monkeypatch.setattr("corgi.engines.patch.patches._DENSE", dense)

    @given(st.data())
    def transposes(data) -> None:
        torch.manual_seed(0)
        conv = data.draw(convolutions(4))
        high, wide = data.draw(shapes)
        values = torch.randn(data.draw(st.integers(1, 40)), 4, high, wide, dtype=dtype)
        weight = torch.randn_like(conv.weight, dtype=dtype)
        layer = layers.Conv(weight, conv.bias, conv.stride, conv.padding, conv.dilation, conv.groups)
        options = {"stride": conv.stride, "dilation": conv.dilation, "groups": conv.groups}
        expected = F.conv_transpose2d(values, weight, **options)
        for _ in range(2):  # what was kept serves again
            torch.testing.assert_close(transposed_conv(values, layer), expected, rtol=1e-4, atol=1e-5)

    transposes()


@given(st.data())
def test_kernels_of_all_channels_are_the_same_convolution(data) -> None:
    conv = data.draw(convolutions(4))
    value = integers(2, conv.weight.shape[1] * conv.groups, 8, 9)
    dense_conv = layers.Conv(
        kernels_of(conv, torch.arange(len(conv.weight))), conv.bias, conv.stride, conv.padding
    )
    assert torch.equal(dense_conv(value), conv(value))


@given(
    patches(),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(0, 3), st.integers(0, 3)),
)
def test_extents_of_what_places_read_need_not_be_found_again(rows, stride, padding) -> None:
    read = rows.places.read(stride, padding)
    fresh = Places(read.ball, read.top, read.left)
    assert (read.rows, read.columns, read.balls) == (fresh.rows, fresh.columns, fresh.balls)
    assert np.array_equal(read.top, rows.places.top * stride[0] - padding[0])
    assert np.array_equal(read.left, rows.places.left * stride[1] - padding[1])


def test_no_rows() -> None:
    none = np.zeros(0, np.int64)
    rows = Patches(torch.zeros(0, 4, 2, 2), Places(none, none, none), none)
    conv = layers.Conv(torch.ones(4, 3, 3, 3), torch.zeros(4))
    assert rows.through_conv(conv, (6, 6)).values.shape[:2] == (0, 3)
    assert len(rows.inside((6, 6)).values) == len(rows.dense((6, 6)).values) == 0
    assert len(rows.times(rows.window(torch.zeros(1, 4, 6, 6))).values) == 0
