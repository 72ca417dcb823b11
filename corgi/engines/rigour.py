"""What floating point may do to a bound, and how much is set aside for it (docs/theory.md, section 5).

gamma_n = n u / (1 - n u) bounds the relative error of a sum of n rounded products, in any order, with respect
to the sum of their absolute values. Weights count as rounded: they were folded, and cast to the precision in
use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from corgi.ambient import settings
from corgi.network import layers

P = ParamSpec("P")
R = TypeVar("R")

FOLDING = 8
"""Roundings of a weight before a pass sees it: folded constants (at most 6) and one cast."""


SPARE = 1.01
"""More than what a bound of an error may itself be off by, as a share: sums of non-negative terms."""

RAISED = 1 + 2.0**-40
"""The rounding of a few float64 operations on non-negative numbers."""

FAR_RAISED = 1 + 2.0**-20
"""That of float64 sums of up to 2^30 non-negative terms, and of weights that were folded."""

LOST = 2.0**-1000
"""What a few float64 products can lose by underflow."""

LOST_PRODUCT = 2.0**-1020
"""What one can: more than 2^-1022."""

LOST_ROOT, LEAST_ROOT = 2.0**-480, 2.0**-500
"""What the root of a sum of squares can, of many and of one: more than sqrt(n 2^-1022)."""


def roundings(count: int) -> float:
    """What so many roundings of float64 may change, as a share: count * 2^-53, exact."""
    return count * 2.0**-53


def unit(dtype: torch.dtype) -> float:
    """Unit roundoff u: 2^-24 or 2^-53."""
    return torch.finfo(dtype).eps / 2


def gamma(terms: int, dtype: torch.dtype) -> float:
    """gamma_n; infinite where n u >= 1/2, so that nothing is proved with it."""
    n_u = terms * unit(dtype)
    return SPARE * n_u / (1 - n_u) if n_u < 0.5 else float("inf")


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
    """Run without gradients, and in the precision gamma_n describes, whatever the process has asked for.

    That is as `settings` says, and without cuDNN, whose algorithms need not be sums of products.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with settings(), torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
            return function(*args, **kwargs)

    return wrapped


def differentiable(value: Any) -> Any:
    """The same tensors, copied where they come from inference mode, in dataclasses and sequences of them."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, list | tuple):
        return type(value)(differentiable(part) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: differentiable(getattr(value, f.name)) for f in fields(value) if f.init}
        return replace(value, **parts)
    return value
