"""The settings of torch and numpy that a process may have changed, as corgi expects them, and back.

Users compute under `torch.no_grad()`, in inference mode, with another default type or device, under
autocast, in anomaly mode, with numpy's warnings as errors. Every entry point of corgi runs `settled`: the
answer does not depend on those settings, and they are afterwards what they were, also after an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from corgi.budget import apart, limited

V = TypeVar("V")
P = ParamSpec("P")
R = TypeVar("R")


def settled() -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a call: under `settings`, and `apart` from the budgets of later ones."""
    return lambda call: apart(settings()(call))


@contextmanager
def settings() -> Iterator[None]:
    """As a process begins: gradients wanted, float32 that is float32, on the CPU, nothing automatic.

    What is set here is a setting of the thread or of the process; two threads that ask for
    different ones must not call corgi at the same time. The number of threads is left as it is.
    """
    with ExitStack() as stack:
        stack.enter_context(limited())
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        # After inference mode, which sets it, too. What Ctrl-C left inside of corgi is put back as well.
        stack.enter_context(_kept(torch.is_grad_enabled, torch.set_grad_enabled, True))
        stack.enter_context(_kept(torch.get_default_dtype, torch.set_default_dtype, torch.float32))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        stack.enter_context(_kept(_determinism, _set_determinism, (False, False)))
        stack.enter_context(_kept(_flushes, torch.set_flush_denormal, False))
        stack.enter_context(torch.autograd.set_detect_anomaly(False))
        stack.enter_context(_float32_is_float32())
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


@contextmanager
def _kept(get: Callable[[], V], put: Callable[[V], object], wanted: V) -> Iterator[None]:
    """A setting as it is wanted, and then as it was, whatever happened to it meanwhile.

    Only what differs is set: some of torch's settings import its compiler, which takes seconds.
    """
    before = get()
    try:
        if before != wanted:
            put(wanted)
        yield
    finally:
        if get() != before:
            put(before)


def _flushes() -> bool:
    """Whether numbers below the smallest normal one become 0."""
    return not bool(torch.tensor(2.0**-1074, dtype=torch.float64, device="cpu") * 1 > 0)


def _determinism() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_determinism(setting: tuple[bool, bool]) -> None:
    mode, warn_only = setting
    torch.use_deterministic_algorithms(mode, warn_only=warn_only)


@contextmanager
def _float32_is_float32() -> Iterator[None]:
    """Without TF32 and bfloat16 inside of float32 products, which torch allows on GPUs and CPUs alike."""
    places: list[Any] = [torch.backends.cuda.matmul]
    places += [getattr(torch.backends.mkldnn, kind, None) for kind in ("matmul", "conv")]
    if not hasattr(places[0], "fp32_precision"):  # torch before 2.9: one switch
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)
        return
    # Only those that are lowered: one that was never set follows more general settings, and is to go on so.
    lowered = [(place, place.fp32_precision) for place in places if place is not None]
    lowered = [(place, precision) for place, precision in lowered if precision not in ("ieee", "none")]
    try:
        for place, _ in lowered:
            place.fp32_precision = "ieee"
        yield
    finally:
        for place, precision in lowered:
            place.fp32_precision = precision
