"""Bounds by auto_LiRPA: IBP, CROWN-IBP, CROWN and alpha-CROWN on the lowered trunk.

MaxPool reaches the library as max(a, b) = b + relu(a - b) (`lowering.py`), because its own MaxPool relaxation
is loose and ignores ceil_mode and dilations. The final 1x1 convolution is flattened: release 0.3 cannot end
in a convolution.

Convolutions are kept as matrices. In the library's fast layout, "patches", bounds of release 0.3 exclude what
the network computes on 3% of generated networks, from a radius on that depends on the image, and on balls of
l_2 and l_1: where a patch outgrows its value, where branches of unequal kernels meet, perhaps elsewhere, too
(tests/soundness/test_lirpa_layout.py).
"""

from __future__ import annotations

import copy
import functools
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from corgi.ambient import settled
from corgi.budget import OutOfTime, check
from corgi.engines.auto_lirpa import (
    BoundedModule,
    BoundedTensor,
    PerturbationLpNorm,
    leaves_relaxed_range,
    release,
)
from corgi.engines.forms import ClassMargins, Forms
from corgi.engines.interface import BoundEngine, Bounder
from corgi.engines.lowering import check_plain, explained_class, lower_trunk
from corgi.engines.rounding import UNIT_RATIO, rounding
from corgi.engines.whole import to_the_end
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import Step, TorchGraph
from corgi.network.network import Network
from corgi.terms import LirpaMethod
from corgi.types import Ball, Interval, Norm

_LIBRARY_NAMES = {
    LirpaMethod.IBP: "IBP",
    LirpaMethod.CROWN_IBP: "CROWN-IBP",
    LirpaMethod.CROWN: "CROWN",
    LirpaMethod.ALPHA_CROWN: "CROWN-Optimized",
}


_MAP, _FEATURES = "map", "features"

MATRIX, PATCHES = "matrix", "patches"
"""How the library may keep convolutions: only bounds in the first are believed."""


@dataclass(frozen=True)
class LirpaEngine(BoundEngine):
    """auto_LiRPA as a bounding engine.

    Attributes:
        relaxation: the method.
        iterations: gradient steps of alpha-CROWN.
        rows: most margins bounded in one backward pass (bounds the memory).
        device: torch device.
    """

    relaxation: LirpaMethod = LirpaMethod.CROWN
    iterations: int = 20
    rows: int = 128
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Name and release."""
        return f"lirpa (auto_LiRPA {release()})"

    @property
    def method(self) -> str:
        """The relaxation, as the user names it."""
        return self.relaxation.value

    @settled()
    def check(self, network: Network) -> None:
        """By the layers alone: nothing is built.

        Raises:
            EngineError: a layer the engine does not honour exactly.
        """
        check_layers(network)

    @settled()
    def bind(self, network: Network, class_id: int, dtype: torch.dtype = torch.float64) -> LirpaBounder:
        """Prepare to bound the map of a class.

        Raises:
            EngineError: a layer the engine does not honour exactly.
        """
        return LirpaBounder(self, network, class_id, dtype)


def check_layers(network: Network) -> None:
    """Refuse what `LirpaBounder` does not bound, nothing built.

    Raises:
        EngineError: a layer that has no plain form, or that the library does not know.
    """
    check_plain(network)
    for step in network.trunk.steps:
        if isinstance(step.layer, layers.Curve):
            raise EngineError(
                f"{network.path}: {step}: engine lirpa does not support {type(step.layer).__name__}",
                hint="Use engine patch.",
            )


class LirpaBounder(Bounder):
    """auto_LiRPA bound to one network, class and precision. Reuses the inner bounds of the last ball.

    `layout`: another one is for measuring how fast it is, and proves nothing.
    """

    _engine: LirpaEngine

    def __init__(
        self,
        engine: LirpaEngine,
        network: Network,
        class_id: int,
        dtype: torch.dtype,
        *,
        layout: str = MATRIX,
    ) -> None:
        self._engine, self._network, self._dtype = engine, network, dtype
        check_layers(network)
        self._trunk, self._explained = lower_trunk(network), explained_class(network, class_id)
        self._layout = layout
        self._built: dict[tuple[str, bool], Any] = {}
        errors = rounding(network, class_id)
        largest = {_MAP: float(errors.pixels.max()), _FEATURES: errors.features}
        self._slack = {source: error * UNIT_RATIO[dtype] for source, error in largest.items()}
        self._last_ball: Ball | None = None
        self._reach = 1.0

    @property
    def rounding(self) -> float:
        """Two map values make a margin."""
        return 2 * self._slack[_MAP] * self._reach

    @settled()
    @to_the_end
    def middle(self, ball: Ball) -> Tensor:
        """The middle of the bounds at radius 0, float64 [pixels]."""
        found = self._interval(_MAP, *self._bound(_MAP, ball.with_radius(0.0), None))
        return (found.lower.to(torch.float64) + found.upper.to(torch.float64)) / 2

    @settled()
    def intervals(self, ball: Ball) -> Interval:
        """Nothing: the library bounds all pixels at once."""
        infinite = torch.full((self._network.pixels,), torch.inf, dtype=self._dtype)
        return Interval(-infinite, infinite)

    @to_the_end
    @settled()
    def pixels(self, ball: Ball, low: Tensor | None = None, high: Tensor | None = None) -> Interval:
        """Folded intervals (theory 1.2), each [pixels]; all of them, whichever were asked for."""
        return self._interval(_MAP, *self._bound(_MAP, ball, None))

    @to_the_end
    @settled()
    def lower(self, ball: Ball, forms: Forms | ClassMargins, *, sharply: bool = False) -> Tensor:
        """Lower bounds of forms of the map, or of single elements of the feature map, float64 [forms]."""
        if isinstance(forms, ClassMargins) or not (forms.of_map or forms.single):
            raise EngineError("engine lirpa bounds forms of maps, and features", hint="Use engine patch.")
        if not forms.of_map:
            ends = self._interval(_FEATURES, *self._bound(_FEATURES, ball, None))
            up = forms.coefficient > 0
            return torch.where(up, ends.lower[forms.element], -ends.upper[forms.element]).to(torch.float64)
        chunks, matrix = [torch.zeros(0, dtype=torch.float64)], forms.matrix(self._network.pixels)
        for some in torch.split(matrix.to(self._dtype), self._engine.rows):
            lower, _ = self._bound(_MAP, ball, some[None])
            found = self._interval(_MAP, lower, torch.full_like(lower, torch.inf), values=2)
            chunks.append(found.lower.to(torch.float64))
        return torch.cat(chunks)

    def _interval(self, source: str, lower: Tensor, upper: Tensor, *, values: int = 1) -> Interval:
        """Bounds of the sum or difference of so many values as the library returned them, rounded outwards.

        It rounds to nearest throughout, so the a-priori bound on all of its rounding is set aside.
        """
        slack = values * self._slack[source] * self._reach
        found = Interval.from_engine(lower, upper, slack=slack, engine=self._engine.name)
        infinite = torch.full_like(found.lower, torch.inf)
        return Interval((found.lower - slack).nextafter(-infinite), (found.upper + slack).nextafter(infinite))

    def _bound(self, source: str, ball: Ball, form: Tensor | None) -> tuple[Tensor, Tensor]:
        """Bounds of all outputs, or of the rows of `form`.

        Raises:
            EngineError: the library fails.
        """
        try:
            return self._compute(source, ball, form)
        except (KeyboardInterrupt, MemoryError, OutOfTime):
            raise
        except Exception as error:  # the library asserts, indexes None, and worse
            # Whatever it was, it never becomes a bound.
            # A rebuilt module knows no ball: without this it would be asked to reuse bounds it never had.
            self._built.clear()
            self._last_ball = None
            raise self._failure(error) from error

    def _compute(self, source: str, ball: Ball, form: Tensor | None) -> tuple[Tensor, Tensor]:
        optimizes = self._engine.relaxation is LirpaMethod.ALPHA_CROWN
        arguments: dict[str, Any] = {"method": _LIBRARY_NAMES[self._engine.relaxation]}
        # Without an input the library keeps the inner bounds of its last one; alpha-CROWN cannot. They are
        # those of `_last_ball` only once a computation with an input has come to its end.
        reuses = source == _MAP and form is not None and not optimizes and ball is self._last_ball
        if not reuses:
            arguments["x"] = (self._input(ball),)
        if source == _MAP:
            self._last_ball = None
        if form is not None:
            arguments |= {"C": form.to(self._engine.device), "bound_upper": False}
        with _quiet(self._dtype), torch.set_grad_enabled(optimizes):
            key = source, ball.norm is Norm.LINF
            if key not in self._built:
                self._built[key] = self._build(*key)
            module = self._built[key]
            lower, upper = module.compute_bounds(**arguments)
        if source == _MAP:
            self._last_ball = ball
        if self._engine.relaxation is not LirpaMethod.IBP and leaves_relaxed_range(module):
            rows = self._rows(source) if form is None else form.shape[1]
            return torch.full((rows,), -torch.inf), torch.full((rows,), torch.inf)
        lower = lower.detach().cpu().reshape(-1)
        if form is not None:  # what the library returns beside the lower bounds is not one of these rows
            return lower, lower
        return lower, upper.detach().cpu().reshape(-1)

    def _rows(self, source: str) -> int:
        filters = self._network.head.filters
        return self._network.pixels * (filters if source == _FEATURES else 1)

    def _build(self, source: str, boxed: bool) -> Any:
        """What bounds the map or the features, over boxes or over other balls."""
        trunk = self._trunk if boxed else _behind_convolution(self._trunk, self._network.input_shape[0])
        behind = [self._explained, nn.Flatten()] if source == _MAP else [nn.Flatten()]
        module: nn.Module = nn.Sequential(trunk, *behind)
        module = _with_parameters(copy.deepcopy(module)).to(self._dtype).to(self._engine.device).eval()
        dummy = torch.zeros(1, *self._network.input_shape, dtype=self._dtype, device=self._engine.device)
        options = {
            "verbosity": 0,
            "conv_mode": self._layout,
            # Release 0.3 asserts on its own sparse alphas with forms of several rows.
            "sparse_features_alpha": False,
            "sparse_spec_alpha": False,
            "optimize_bound_args": {"iteration": self._engine.iterations, "early_stop_patience": 5},
        }
        return _looking_at_the_time(
            BoundedModule(module, dummy, bound_opts=options, device=self._engine.device)
        )

    def _failure(self, error: Exception) -> EngineError:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        tighter = self._engine.relaxation is LirpaMethod.ALPHA_CROWN
        return EngineError(
            f"{self._network.path}: {self._engine.name} cannot bound this network with"
            f" {self._engine.method}: {reason}",
            hint="Try --method crown." if tighter else "Try --method ibp, which it can always do.",
        )

    def _input(self, ball: Ball) -> Any:
        if ball.norm is not Norm.LINF:
            return self._norm_input(ball)
        box = ball.box(self._dtype)
        lower, upper = (v[None].to(self._engine.device) for v in (box.lower, box.upper))
        center = ball.center.to(self._dtype)[None].to(self._engine.device)
        return BoundedTensor(center, PerturbationLpNorm(norm=np.inf, x_L=lower, x_U=upper))

    def _norm_input(self, ball: Ball) -> Any:
        """The ball without the pixel box, which the library cannot combine with it.

        So pixels may lie beyond [0, 1]. The magnitudes that the rounding bound is made of are those of pixels
        of at most 1: they, and the radius times the dual norm of a row, add up to at most 1 + radius times as
        much. A quarter more covers the roundings of that norm, and of one convolution more.
        """
        center = ball.center.to(self._dtype)
        radius = ball.radius + ball.distance(center)
        # In float32 the library multiplies by the radius as float32 has it: the next one above it.
        held = torch.tensor(radius, dtype=self._dtype).nextafter(torch.tensor(np.inf, dtype=self._dtype))
        self._reach = max(self._reach, 1.25 * (1 + float(held)))
        with np.errstate(divide="ignore"):  # of l_1 it computes q = 1 / 0
            perturbation = PerturbationLpNorm(norm=ball.norm.order, eps=float(held))
        return BoundedTensor(center[None].to(self._engine.device), perturbation)


def _behind_convolution(trunk: TorchGraph, channels: int) -> TorchGraph:
    """The trunk with the image read by convolutions only, where necessary by one that changes nothing.

    Of all layers release 0.3 knows only convolutions to read a ball that is no box: behind another one
    intervals would take its centre for all of it.
    """
    readers = [step for step in trunk.steps if trunk.input_name in step.inputs]
    if trunk.output_name != trunk.input_name and all(isinstance(step.layer, layers.Conv) for step in readers):
        return trunk
    name = f"{trunk.input_name} read"
    ones = torch.eye(channels, dtype=torch.float64)[:, :, None, None]
    same = layers.Conv(ones, torch.zeros(channels, dtype=torch.float64))
    first = Step("", "Conv", same, (trunk.input_name,), name)
    steps = tuple(
        replace(step, inputs=tuple(name if i == trunk.input_name else i for i in step.inputs))
        for step in trunk.steps
    )
    output = name if trunk.output_name == trunk.input_name else trunk.output_name
    return TorchGraph((first, *steps), trunk.input_name, output)


def _with_parameters(module: nn.Module) -> nn.Module:
    """Constants as parameters: the library asks the first parameter for the precision."""
    for layer in module.modules():
        for name, value in list(layer.named_buffers(recurse=False)):
            del layer._buffers[name]
            layer.register_parameter(name, nn.Parameter(value.contiguous(), requires_grad=False))
    return module


def _looking_at_the_time(module: Any) -> Any:
    """A module of the library whose every step through a layer begins only while there is time."""

    def timed(step: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(step)
        def begun(*inputs: Any, **options: Any) -> Any:
            check()
            return step(*inputs, **options)

        return begun

    for node in module._modules.values():
        for name in ("interval_propagate", "bound_backward"):
            setattr(node, name, timed(getattr(node, name)))
    return module


@contextmanager
def _quiet(dtype: torch.dtype) -> Iterator[None]:
    """The library creates tensors of the default type, prints, and lets torch warn of deprecations."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_default_dtype(before)
