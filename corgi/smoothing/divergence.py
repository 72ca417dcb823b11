"""Renyi divergence between noisy images: within which radius it stays below a budget (theory 7.10).

Two images x and x' in an l_d ball of radius L; D_a is the divergence of order a between x + noise and x' +
noise. Noise is independent, so D_a is a sum over the input values. Scale s and shape b as in `noise.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import binom, gammaln

from corgi.errors import UsageError
from corgi.results import FloatArray
from corgi.smoothing.noise import Noise, shape_for

_SLACK = 1e-9
"""Relative; many times the error of the functions used here."""

ORDERS: FloatArray = 1 + np.concatenate([[0.0], np.geomspace(1e-3, 1e3, 61)])
"""Orders a that are tried; each one by itself is sound, so a finer grid can only certify more."""


def orders_for(noise: Noise, norm: float) -> FloatArray:
    """The orders a for which `radius_for` knows the divergence.

    Raises:
        UsageError: for this noise and norm there is none.
    """
    if noise.shape == 1.0 and norm == 1.0:
        return ORDERS
    if noise.shape == 2.0 and norm <= 2:
        return ORDERS
    if noise.shape % 2 == 0 and norm >= 1:
        return ORDERS[:1]
    raise UsageError(
        f"{noise.name} noise: no bound of the divergence in l_{norm:g}",
        hint="Laplace noise serves l_1, shapes that are even numbers serve every norm.",
    )


def radius_for(budget: float, order: float, noise: Noise, norm: float, inputs: int) -> float:
    """The largest l_d radius L within which D_order is at most `budget`, rounded down.

    Args:
        budget: >= 0.
        order: a of D_a, one of `orders_for`.
        noise: of either image.
        norm: the d of l_d.
        inputs: values of an image.
    """
    if not budget > 0:
        return 0.0
    if noise.shape == 1.0:
        return _inverse(lambda t: _laplace(t, order), budget) * noise.scale
    if noise.shape == 2.0 and norm <= 2:
        # l_2 <= l_d there, and D_a = a L^2 / (2 sigma^2).
        return noise.sigma * math.sqrt(2 * budget / order) * (1 - _SLACK)
    return _inverse(lambda t: generalized(t, noise.shape, norm, inputs), budget) * noise.scale


def radius_as_published(budget: float, noise: Noise, norm: float, inputs: int) -> float:
    """The radius printed for d > 2: the divergence of ONE input value. No guarantee (theory 7.10)."""
    if not budget > 0:
        return 0.0
    beyond = norm > 2 * math.ceil(math.log(inputs) / 2)
    radius = _inverse(lambda t: generalized(t, noise.shape, norm, 1), budget) * noise.scale
    return radius / math.e if beyond else radius


def noise_for(norm: float, sigma: float, inputs: int, seed: int) -> Noise:
    """The noise that theory 7.7 takes against l_d perturbations of `inputs` values."""
    return Noise(sigma, shape_for(norm, inputs), seed)


def _laplace(t: float, order: float) -> float:
    """D_a for Laplace noise and an l_1 radius of t scales; convex and 0 at 0, so one pixel alone is worst."""
    if order == 1.0:
        return (
            t * t / 2 if t < 1e-3 else t + math.expm1(-t)
        )  # the first is an upper bound, and loses no digits
    high = math.log(order / (2 * order - 1)) + (order - 1) * t
    low = math.log((order - 1) / (2 * order - 1)) - order * t
    # The logarithms cancel; what rounding leaves of them counts in full.
    return (float(np.logaddexp(high, low)) + 1e-14 * (1 + order * t)) / (order - 1)


def generalized(t: float, shape: float, norm: float, inputs: int) -> float:
    """D_1 for an even shape b and an l_d radius of t scales.

    One value moved by t: E (Y - t)^b - Y^b = sum_i C(b, 2i) t^(2i) E Y^(b-2i), i = 1 .. b/2, with
    E Y^p = Gamma((p + 1) / b) / Gamma(1 / b). Over all values, sum_j |t_j|^(2i) <= n^max(0, 1 - 2i/d) t^(2i).
    """
    powers = np.arange(2, int(shape) + 1, 2)
    moments = np.exp(gammaln((shape + 1 - powers) / shape) - gammaln(1 / shape))
    spread = float(inputs) ** np.maximum(0.0, 1 - powers / norm)
    return float((binom(shape, powers) * moments * spread * t**powers).sum())


def _inverse(divergence: Callable[[float], float], budget: float) -> float:
    """The largest t, up to rounding, with divergence(t) <= budget: an increasing function, 0 at 0."""
    low, high = 0.0, 1.0
    while divergence(high) <= budget * (1 - _SLACK) and high < 1e6:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        if divergence(middle) * (1 + _SLACK) <= budget:
            low = middle
        else:
            high = middle
    return low * (1 - _SLACK)
