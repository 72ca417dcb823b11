"""`a+b`: several properties at once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from corgi.errors import UsageError
from corgi.properties.formula import All, Formula
from corgi.properties.interface import Property
from corgi.results import Parameter, TopK


@dataclass(frozen=True)
class Both(Property):
    """All of some properties.

    Attributes:
        parts: the properties, two at least.
    """

    parts: tuple[Property, ...]

    def __post_init__(self) -> None:
        if len(self.parts) < 2:
            raise UsageError("a conjunction of fewer than two properties")

    @property
    def name(self) -> str:  # type: ignore[override]
        """`pointing+overlap`."""
        return "+".join(part.name for part in self.parts)

    @property
    def region(self) -> tuple[int, ...] | None:
        """That of its parts; None where they have none, or different ones."""
        found = {part.statement(1).region for part in self.parts} - {None}
        return found.pop() if len(found) == 1 else None

    def parameters(self) -> tuple[tuple[str, Parameter], ...]:
        """Those of the parts: `overlap.keep`."""
        return tuple(
            (f"{part.name}.{name}", value) for part in self.parts for name, value in part.parameters()
        )

    def formula(self, cam: Tensor, top: TopK) -> Formula:
        """See `Property.formula`."""
        return All(tuple(part.formula(cam, top) for part in self.parts))

    def among(self, k: int) -> int:
        """The largest of the parts', so that no more is said than holds."""
        return max(part.among(k) for part in self.parts)

    def words(self, k: int) -> tuple[str, str]:
        """See `Property.words`."""
        (subject, verb), *rest = (part.words(k) for part in self.parts)
        return subject, ", and ".join([verb, *(" ".join(words) for words in rest)])
