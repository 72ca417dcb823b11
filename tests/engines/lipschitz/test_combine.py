"""Rows linear in the derivatives of windows: against all choices of derivatives."""

from __future__ import annotations

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.lipschitz.combine import CombinedRows, _Elements
from corgi.types import Interval, Norm


def points(values: Tensor) -> Interval:
    return Interval(values, values)


def example(seed: int, sizes: tuple[int, ...], columns: int) -> CombinedRows:
    """Random coefficients; windows of one to three elements, with the zero or without."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    layers, start = [], 0
    for size in sizes:
        zero = torch.rand(size, generator=generator) < 0.5
        counts = torch.randint(1, 4, (size,), generator=generator)
        window = torch.arange(size).repeat_interleave(counts)
        layers.append(
            _Elements(
                start, zero, window, points(normal(len(window), columns)), points(normal(len(window), start))
            )
        )
        start += size
    return CombinedRows(points(normal(2, columns)), points(normal(2, start)), tuple(layers))


def every_row(rows: CombinedRows) -> Tensor:
    """The rows for every choice of one element a window: [choices, P, columns]."""
    choices = []
    for layer in rows.layers:
        for w in range(len(layer.zero)):
            elements = (layer.window == w).nonzero().flatten().tolist()
            choices.append([*elements, *([None] if layer.zero[w] else [])])
    found = []
    for chosen in itertools.product(*choices):
        windows = torch.zeros(len(choices), rows.image.lower.shape[1], dtype=torch.float64)
        place = 0
        for layer in rows.layers:
            for _ in range(len(layer.zero)):
                element = chosen[place]
                if element is not None:
                    earlier = layer.earlier.lower[element] @ windows[: layer.start]
                    windows[place] = layer.image.lower[element] + earlier
                place += 1
        found.append(rows.image.lower + rows.windows.lower @ windows)
    return torch.stack(found)


@given(seed=st.integers(0, 10_000), sizes=st.sampled_from([(), (1,), (3,), (2, 2), (1, 2, 1)]))
def test_no_choice_of_derivatives_leaves_the_bounds(seed: int, sizes: tuple[int, ...]) -> None:
    """Each coefficient, and with it each norm, is convex in every derivative: the worst one is a choice."""
    rows = example(seed, sizes, 4)
    every, known = every_row(rows), rows.coefficients()
    assert (known.lower <= every).all()
    assert (every <= known.upper).all()
    for norm in Norm:
        exact = torch.stack([norm.dual.sizes(choice[:, :, None, None]) for choice in every]).amax(0)
        found = rows.dual_norms(norm)
        assert (exact <= found * (1 + 1e-14)).all()
        ends = torch.maximum(known.lower.abs(), known.upper.abs())
        assert (found <= norm.dual.sizes(ends[:, :, None, None]) * (1 + 1e-9)).all()


@given(seed=st.integers(0, 10_000), count=st.integers(0, 4))
def test_where_no_coefficient_changes_its_sign_the_l_1_norm_is_exact(seed: int, count: int) -> None:
    rows = example(seed, (count,), 5)
    signs = rows.image.lower.sign()
    reach = torch.tensor([float(layer.image.upper.abs().sum()) for layer in rows.layers])
    large = rows.image.lower + signs * (1 + float((rows.windows.upper.abs().sum() + 1) * (reach.sum() + 1)))
    rows = CombinedRows(points(large), rows.windows, rows.layers)
    exact = every_row(rows).abs().sum(2).amax(0)
    torch.testing.assert_close(rows.dual_norms(Norm.LINF), exact, rtol=1e-10, atol=0)


def test_one_derivative_serves_all_pixels() -> None:
    """Pixel by pixel the window would count with its whole row; its entries cancel in the l_1 norm."""
    layer = _Elements(
        0,
        torch.tensor([True]),
        torch.tensor([0]),
        points(torch.tensor([[3.0, -3.0]], dtype=torch.float64)),
        points(torch.zeros(1, 0, dtype=torch.float64)),
    )
    image = points(torch.tensor([[10.0, 10.0]], dtype=torch.float64))
    rows = CombinedRows(image, points(torch.ones(1, 1, dtype=torch.float64)), (layer,))
    torch.testing.assert_close(rows.dual_norms(Norm.LINF), torch.tensor([20.0], dtype=torch.float64))
    assert float(rows.coefficients().upper.sum()) >= 23
