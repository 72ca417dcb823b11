"""Bounds are computed in the precision their rounding analysis assumes, and leave the process as it was."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from corgi.engines.rigour import differentiable, plainly


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
