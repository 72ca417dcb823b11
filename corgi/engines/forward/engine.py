"""Bound the map over parts of a family of images by affine forms carried forwards.

Of a shallow network float64 does, for several boxes at once and with one remainder a value. Deep ones need
more digits and a generator for each undecided unit (precise.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from corgi.budget import check
from corgi.changes.family import Family, LinearFamily
from corgi.engines.forward.digits import MOST_TERMS
from corgi.engines.forward.images import images
from corgi.engines.forward.precise import SERVED, PrecisePass, TooMany
from corgi.engines.forward.precision import Precision
from corgi.engines.forward.rules import RULES, forward_step
from corgi.engines.forward.tail import narrowed, tail_of
from corgi.engines.lowering import explained_class
from corgi.engines.parametric import AffineForms, Boxes, FamilyBounder, FamilyEngine, Maps
from corgi.engines.patch.prepare import prepare
from corgi.engines.rigour import fan_in, plainly
from corgi.errors import EngineError
from corgi.network import layers
from corgi.network.convert import TorchGraph
from corgi.network.depth import is_deep
from corgi.network.network import Network
from corgi.types import Interval

_NUMBERS = 2**27
"""Numbers that the largest value's digits may have, of all its terms: 1 GiB."""

_MOST = 1024
"""Terms of forms at most: wider boxes are better halved."""

_DIGITS = 8
"""Digits of a weight at most; of one that has more nothing is known."""


@dataclass(frozen=True)
class ForwardEngine(FamilyEngine):
    """Affine forms in the parameters, with one remainder a value."""

    def bind(self, network: Network, class_id: int) -> ForwardBounder:
        """See `FamilyEngine.bind`."""
        precise = PreciseBounder.of(network, class_id) if is_deep(network.trunk) else None
        return precise or ForwardBounder(network, class_id)


class ForwardBounder(FamilyBounder):
    """The engine bound to one network and class. It keeps nothing from one call to the next."""

    def __init__(self, network: Network, class_id: int) -> None:
        self._graph = prepare(network)
        for step in self._graph.steps:
            if not isinstance(step.layer, tuple(RULES)):
                known = ", ".join(sorted(kind.__name__ for kind in RULES))
                raise EngineError(
                    f"{network.path}: {step}: engine {self.name} has no rule for {type(step.layer).__name__}",
                    hint=f"It has rules for {known}, and what can be written in these.",
                )
        self._head, self._tail = explained_class(network, class_id), tail_of(self._graph)

    @property
    def name(self) -> str:
        """See `FamilyBounder.name`."""
        return "forward affine forms"

    @plainly
    def images(self, family: Family, boxes: Boxes) -> Interval:
        """See `FamilyBounder.images`."""
        return images(family, boxes).interval()

    @plainly
    def maps(self, family: Family, boxes: Boxes) -> Maps:
        """See `FamilyBounder.maps`; the narrower ones are those of `tail.py`."""
        kept = {name for step in self._tail for name in (step.output, *step.inputs)}
        kept.add(self._graph.output_name)
        found = {self._graph.input_name: images(family, boxes)}
        last = {name: step.output for step in self._graph.steps for name in step.inputs}
        for step in self._graph.steps:
            check()
            found[step.output] = forward_step(step.layer, [found[name] for name in step.inputs])
            for name in set(step.inputs) - kept:
                if last[name] == step.output:
                    del found[name]
        cams = forward_step(self._head, [found[self._graph.output_name]])

        @plainly
        def narrower(which: Tensor) -> AffineForms:
            some = {name: value.chosen(which) for name, value in found.items() if name in kept}
            return _flat(narrowed(self._head, self._tail, some, cams.chosen(which)))

        return Maps(_flat(cams), narrower)


class PreciseBounder(ForwardBounder):
    """Of deep networks: images that are linear in the parameters, one box after the other.

    It keeps how fine its grids must be, of the last family that it was asked for.
    """

    def __init__(self, network: Network, class_id: int, exact: TorchGraph) -> None:
        super().__init__(network, class_id)
        self._exact, self._pixels = exact, network.pixels
        self._last: tuple[Family, Precision] | None = None

    @staticmethod
    def of(network: Network, class_id: int) -> PreciseBounder | None:
        """None where a layer has no rule for digits, or sums more terms than digits add up exactly."""
        try:
            exact = prepare(network, folding=False)
        except EngineError:
            return None
        made = [step.layer for step in exact.steps]
        sums = [_DIGITS * fan_in(layer) for layer in made if isinstance(layer, layers.Conv)]
        if not all(isinstance(layer, SERVED) for layer in made) or max(sums, default=0) >= MOST_TERMS:
            return None
        return PreciseBounder(network, class_id, exact)

    @property
    def name(self) -> str:
        """See `FamilyBounder.name`."""
        return "forward affine forms in many digits"

    @plainly
    def maps(self, family: Family, boxes: Boxes) -> Maps:
        """See `FamilyBounder.maps`; columns behind those of the parameters are of undecided units."""
        if not isinstance(family, LinearFamily):
            return super().maps(family, boxes)
        if self._last is None or self._last[0] is not family:
            self._last = family, Precision.of(self._exact, self._head, family.image)
        precision = self._last[1]
        each = (Boxes(boxes.lower[i : i + 1], boxes.upper[i : i + 1]) for i in range(len(boxes)))
        found = [self._one(family, box, precision) for box in each]
        count = max(forms.terms.shape[1] for forms in found)
        terms = [F.pad(v.terms, (0, 0, 0, count - v.terms.shape[1])) for v in found]
        forms = AffineForms(torch.cat(terms), torch.cat([v.remainder for v in found]))
        return Maps(forms, forms.chosen)

    def _one(self, family: LinearFamily, box: Boxes, precision: Precision) -> AffineForms:
        """The map over one box; of one that is too wide for as many generators nothing is known."""
        most = max(2, min(_MOST, _NUMBERS // precision.numbers)) + family.dimensions
        try:
            return _flat(PrecisePass(self._exact, self._head, precision, most).run(family, box))
        except (TooMany, ArithmeticError):
            pixels = family.image.new_zeros(self._pixels)
            return AffineForms(pixels.expand(1, 1 + family.dimensions, -1), (pixels + torch.inf)[None])


def _flat(cams: AffineForms) -> AffineForms:
    return AffineForms(cams.terms.flatten(2), cams.remainder.flatten(1))
