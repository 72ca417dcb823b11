"""Bounds are computed in the precision their rounding analysis assumes, and leave the process as it was."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from corgi.engines.rigour import FOLDING, differentiable, fan_in, fan_out, gamma, plainly, smallest, unit
from corgi.network import layers

UNITS = {torch.float32: Fraction(1, 2**24), torch.float64: Fraction(1, 2**53)}


@given(dtype=st.sampled_from(list(UNITS)), terms=st.integers(1, 2**54))
def test_gamma_is_never_less_than_the_bound_of_a_sum(dtype: torch.dtype, terms: int) -> None:
    """n u / (1 - n u) in rational numbers; 2% more at most, and nothing is known from n u = 1/2 on."""
    u = UNITS[dtype]
    assert Fraction(unit(dtype)) == u
    found, n_u = gamma(terms, dtype), terms * u
    if n_u >= Fraction(1, 2):
        assert found == math.inf
    else:
        exact = n_u / (1 - n_u)
        assert exact <= Fraction(found) <= exact * Fraction(102, 100)


def test_gamma_says_nothing_from_a_half_on() -> None:
    assert gamma(2**23, torch.float32) == math.inf
    assert gamma(2**23 - 1, torch.float32) < 1.02


def test_a_product_that_underflows_loses_at_most_the_smallest_number() -> None:
    for dtype in UNITS:
        tiny = torch.tensor(smallest(dtype), dtype=dtype)
        assert float(tiny / 2) in (0.0, smallest(dtype) / 2)
        assert float(tiny) == torch.finfo(dtype).smallest_normal


def test_a_folded_weight_counts_as_rounded_seven_times_at_least() -> None:
    assert FOLDING >= 7


CONVOLUTIONS = st.tuples(
    st.sampled_from([1, 2, 3]),  # groups
    st.integers(1, 3),  # inputs a group
    st.integers(1, 3),  # outputs a group
    st.integers(1, 4),
    st.integers(1, 3),
)


@given(shape=CONVOLUTIONS, rows=st.integers(1, 6), columns=st.integers(1, 6))
def test_fans_are_the_most_terms_of_a_sum(shape: tuple[int, ...], rows: int, columns: int) -> None:
    """Counted by a convolution of ones: what one output reads, and how many of a patch read one input."""
    groups, inputs, outputs, height, width = shape
    weight = torch.ones(groups * outputs, inputs, height, width, dtype=torch.float64)
    conv = layers.Conv(weight, torch.ones(groups * outputs).double(), (1, 1), (0, 0), (1, 1), groups)
    x = torch.ones(1, groups * inputs, rows + height - 1, columns + width - 1, dtype=torch.float64)
    x.requires_grad_(True)
    out = F.conv2d(x, weight, torch.ones(groups * outputs).double(), groups=groups)
    assert out.shape[-2:] == (rows, columns)
    assert fan_in(conv) == int(out.max())
    (reads,) = torch.autograd.grad(out.sum(), x)
    assert fan_out(conv, (rows, columns)) == int(reads.max())


@plainly
def product(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@pytest.mark.parametrize("asked", ["highest", "high", "medium"])
def test_no_lower_precision_inside_of_float32(asked: str) -> None:
    """With "medium" torch may multiply in bfloat16, on processors that can: gamma_n knows nothing of that."""
    torch.manual_seed(0)
    a, b = torch.randn(512, 512), torch.randn(512, 512)
    before = torch.get_float32_matmul_precision()
    expected = product(a, b)
    try:
        torch.set_float32_matmul_precision(asked)
        assert torch.equal(product(a, b), expected)
        assert torch.get_float32_matmul_precision() == asked
    finally:
        torch.set_float32_matmul_precision(before)
    exact = a.double() @ b.double()
    assert float((expected - exact).abs().max()) <= 512 * 2.0**-24 * float((a.abs() @ b.abs()).max())


def test_no_autocast() -> None:
    a, b = torch.rand(64, 64), torch.rand(64, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert product(a, b).dtype is torch.float32
        assert torch.equal(product(a, b), a.float() @ b.float()) is False  # outside of it, bfloat16
        inside = product(a, b)
    assert torch.equal(inside, a @ b)


def test_what_the_process_asked_for_is_restored_after_an_error() -> None:
    @plainly
    def fails() -> None:
        raise KeyError("a")

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with pytest.raises(KeyError):
            fails()
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@dataclass(frozen=True)
class Pair:
    values: Tensor
    rest: tuple[Tensor, ...]
    name: str


def test_tensors_of_inference_mode_become_differentiable() -> None:
    kept = torch.ones(2)
    with torch.inference_mode():
        pair = Pair(torch.arange(3.0), (torch.ones(1), kept), "a")
    found = differentiable([pair])[0]
    assert found.name == "a"
    assert found.rest[1] is kept
    leaf = torch.ones(3, requires_grad=True)
    ((leaf * found.values).sum() * found.rest[0]).sum().backward()
    assert torch.equal(leaf.grad, pair.values)
