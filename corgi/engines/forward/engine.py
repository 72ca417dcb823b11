"""Bound the map over parts of a family of images by affine forms carried forwards."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.budget import check
from corgi.changes.family import Family
from corgi.engines.forward.images import images
from corgi.engines.forward.rules import RULES, forward_step
from corgi.engines.forward.tail import narrowed, tail_of
from corgi.engines.lowering import explained_class
from corgi.engines.parametric import AffineForms, Boxes, FamilyBounder, FamilyEngine, Maps
from corgi.engines.patch.prepare import prepare
from corgi.engines.rigour import plainly
from corgi.errors import EngineError
from corgi.network.network import Network
from corgi.types import Interval


@dataclass(frozen=True)
class ForwardEngine(FamilyEngine):
    """Affine forms in the parameters, with one remainder a value."""

    def bind(self, network: Network, class_id: int) -> ForwardBounder:
        """See `FamilyEngine.bind`."""
        return ForwardBounder(network, class_id)


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


def _flat(cams: AffineForms) -> AffineForms:
    return AffineForms(cams.terms.flatten(2), cams.remainder.flatten(1))
