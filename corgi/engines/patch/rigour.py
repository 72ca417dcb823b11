"""What floating point may do to a bound, and how much is set aside for it (docs/theory.md, section 5).

gamma_n = n u / (1 - n u) bounds the relative error of a sum of n rounded products, in any order, with respect
to the sum of their absolute values. Weights count as rounded: they were folded, and cast to the precision in
use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from corgi.network import layers

P = ParamSpec("P")
R = TypeVar("R")

FOLDING = 8
"""Roundings of a weight before a pass sees it: folded constants (at most 6) and one cast."""


def unit(dtype: torch.dtype) -> float:
    """Unit roundoff u: 2^-24 or 2^-53."""
    return torch.finfo(dtype).eps / 2


def gamma(terms: int, dtype: torch.dtype) -> float:
    """gamma_n; infinite where n u >= 1/2, so that nothing is proved with it."""
    n_u = terms * unit(dtype)
    return 1.01 * n_u / (1 - n_u) if n_u < 0.5 else float("inf")


def smallest(dtype: torch.dtype) -> float:
    """What a product can lose by underflow, also where the hardware flushes to zero."""
    return torch.finfo(dtype).tiny


def fan_in(conv: layers.Conv) -> int:
    """Terms of one output of a convolution, its bias included."""
    return conv.weight[0].numel() + 1


def fan_out(conv: layers.Conv, size: tuple[int, int]) -> int:
    """Terms of one coefficient on a convolution's input: the outputs in a patch of some size that read it."""
    kernel = conv.weight.shape[2:]
    return conv.weight.shape[0] // conv.groups * min(kernel[0], size[0]) * min(kernel[1], size[1])


def plainly(function: Callable[P, R]) -> Callable[P, R]:
    """Run without gradients, and on CUDA without cuDNN and TF32, which gamma_n does not describe."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = False
        try:
            with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
                return function(*args, **kwargs)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return wrapped
