"""A property as the user writes it: names and options, before map and picture are known.

`pointing+overlap` with `region` and `keep`. It is checked while the command line is read, so nothing heavy is
imported here; the region is read once the picture is known, of each picture by itself. Which property has
which option:

    topk      k2                    overlap   keep              pointing  region
    inside    keep, region          iou       threshold, iou    order     above, below
    centre    within
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from corgi.data.region import annotated_by, parse_region, read_region
from corgi.data.window import Window
from corgi.errors import UsageError
from corgi.terms import PropertyName

if TYPE_CHECKING:
    from corgi.data.region import Region
    from corgi.properties.interface import Property
    from corgi.results import Place

NEEDED: Mapping[PropertyName, tuple[str, ...]] = MappingProxyType(
    {
        PropertyName.TOPK: (),
        PropertyName.OVERLAP: ("keep",),
        PropertyName.POINTING: ("region",),
        PropertyName.INSIDE: ("keep", "region"),
        PropertyName.IOU: (),
        PropertyName.ORDER: ("above", "below"),
        PropertyName.CENTRE: (),
    }
)
"""Options a property cannot be asked without."""

_OTHERS: Mapping[PropertyName, tuple[str, ...]] = MappingProxyType(
    {
        PropertyName.TOPK: ("k2",),
        PropertyName.IOU: ("threshold", "iou"),
        PropertyName.CENTRE: ("within",),
    }
)
"""Options it can be asked with."""


@dataclass(frozen=True)
class WantedProperty:
    """What is asked of a map.

    Attributes:
        names: of the properties, all of which must hold.
        k2: the k largest must stay among the k2 largest; None for k.
        keep: how many of the k largest.
        region: as `read_region` takes it, or map pixels, flat indices.
        threshold, iou: of the mask, and of its intersection over union; None for 0.5.
        above, below: places of pixels.
        within: in map pixels; None for 1.

    Raises:
        UsageError: an option without its property, a property without its option, or a region that is none.
    """

    names: tuple[PropertyName, ...] = (PropertyName.TOPK,)
    k2: int | None = None
    keep: int | None = None
    region: str | tuple[int, ...] | None = None
    threshold: float | None = None
    iou: float | None = None
    above: tuple[Place, ...] | None = None
    below: tuple[Place, ...] | None = None
    within: float | None = None

    def __post_init__(self) -> None:
        given = {field.name for field in fields(self) if getattr(self, field.name) is not None} - {"names"}
        _refuse_others(given, self.names, self.name)
        for name in self.names:
            if missing := [f"--{option}" for option in NEEDED[name] if option not in given]:
                raise UsageError(f"--property {name}: expected {' and '.join(missing)}, too")
        if isinstance(self.region, str):
            parse_region(self.region)

    @staticmethod
    def read(text: str, **given: Any) -> WantedProperty:
        """A property as it is written, `pointing+overlap`, and its options; None for those not given.

        Raises:
            UsageError: a name that is none, or that stands twice; see the class for others.
        """
        return WantedProperty(_names(text), **given)

    @staticmethod
    def read_each(texts: Sequence[str], **given: Any) -> tuple[WantedProperty, ...]:
        """Several properties, each with those of the options that it takes.

        Raises:
            UsageError: an option that none of them takes, or the same names twice; see `read` for others.
        """
        each = [_names(text) for text in texts]
        for place, names in enumerate(each):
            if set(names) in map(set, each[:place]):
                raise UsageError(f"--property {'+'.join(names)}: asked twice")
        given = {option: value for option, value in given.items() if value is not None}
        every = tuple(name for names in each for name in names)
        _refuse_others(given, every, " and ".join("+".join(names) for names in each))
        return tuple(
            WantedProperty(names, **{o: v for o, v in given.items() if o in _options(names)})
            for names in each
        )

    @property
    def name(self) -> str:
        """As it is written."""
        return "+".join(self.names)

    @property
    def plain(self) -> bool:
        """Whether it is that of the set alone: what is asked where nothing is written."""
        return self.names == (PropertyName.TOPK,)

    def absolute(self) -> WantedProperty:
        """The same, wherever it is read: of a region's file the whole path."""
        given = self.region
        return replace(self, region=parse_region(given).absolute) if isinstance(given, str) else self

    def annotated_by(self, picture: Path) -> str | None:
        """The digest of what annotates a picture; None where a region is not looked for of each picture."""
        return annotated_by(parse_region(self.region), picture) if isinstance(self.region, str) else None

    def property(
        self,
        shape: tuple[int, int],
        window: Window,
        picture: Path | None = None,
        told: Callable[[Region], None] = lambda _: None,
    ) -> Property:
        """The property for one picture.

        Args:
            shape: height and width of the map.
            window: the part of the picture that the network sees; `Window.whole` of its input for an image
                that is no file's.
            picture: the picture's file, by whose name annotations are found.
            told: hears of the region as it was read.

        Raises:
            UsageError, ImageError, DataError: a value that cannot be, or see `read_region`.
        """
        from corgi.properties.both import Both

        region = self.region
        if isinstance(region, str):
            found = read_region(region, window, shape, picture)
            told(found)
            region = found.pixels
        parts = tuple(self._one(name, region) for name in self.names)
        return parts[0] if len(parts) == 1 else Both(parts)

    def _one(self, name: PropertyName, region: tuple[int, ...] | None) -> Property:
        from corgi import properties

        if name is PropertyName.TOPK:
            return properties.Topk(self.k2)
        if name is PropertyName.IOU:
            return properties.Iou(_or(self.threshold, 0.5), _or(self.iou, 0.5))
        if name is PropertyName.CENTRE:
            return properties.Centre(_or(self.within, 1.0))
        if name is PropertyName.ORDER:
            return properties.Order(self.above or (), self.below or ())
        if name is PropertyName.OVERLAP:
            return properties.Overlap(self.keep or 0)
        if name is PropertyName.POINTING:
            return properties.Pointing(region or ())
        return properties.Inside(self.keep or 0, region or ())

    def parameters(self) -> dict[str, Any]:
        """What was asked, by name, for the identity of a batch; {} where it is that of the set alone.

        A file named by the region counts by its content. What `annotation` finds of each picture counts
        with the picture (`annotated_by`).
        """
        if self.plain:
            return {}
        found: dict[str, Any] = {"name": self.name}
        for field in fields(self)[1:]:
            value = getattr(self, field.name)
            if value is not None:
                found[field.name] = [list(p) for p in value] if field.name in ("above", "below") else value
        if isinstance(self.region, tuple):
            found["region"] = list(self.region)
        elif self.region is not None:
            file = parse_region(self.region).file
            if file is not None:
                found["region_sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        return found


def _names(text: str) -> tuple[PropertyName, ...]:
    """Of properties as they are written, `pointing+overlap`.

    Raises:
        UsageError: a name that is none, or that stands twice.
    """
    names: list[PropertyName] = []
    for part in text.split("+"):
        try:
            names.append(PropertyName(part.strip()))
        except ValueError:
            expected = f"expected one of {', '.join(PropertyName)}, or several with + between"
            raise UsageError(f"--property {text}: {expected}") from None
    if len(set(names)) < len(names):
        raise UsageError(f"--property {text}: the same twice")
    return tuple(names)


def _options(names: Iterable[PropertyName]) -> set[str]:
    """The options that some properties take."""
    return {option for name in names for option in (*NEEDED[name], *_OTHERS.get(name, ()))}


def _refuse_others(given: Iterable[str], names: Iterable[PropertyName], written: str) -> None:
    """Refuse options that none of some properties takes.

    Raises:
        UsageError: there is one.
    """
    for option in sorted(set(given) - _options(names)):
        owners = [name for name in PropertyName if option in _options([name])]
        raise UsageError(
            f"--{option}: not an option of --property {written}",
            hint=f"It is one of {' and '.join(owners)}.",
        )


def read_places(option: str, text: str) -> tuple[Place, ...]:
    """Pixels of a map as a user writes them: `ROW,COLUMN`, several with `;` between.

    Raises:
        UsageError: not of that form.
    """
    found = [re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*", part) for part in text.split(";")]
    places = tuple((int(one[1]), int(one[2])) for one in found if one is not None)
    if len(places) < len(found):
        hint = "Rows and columns of the map count from 0."
        raise UsageError(f"{option} {text}: expected ROW,COLUMN, or several with ; between", hint=hint)
    return places


def plain_region(region: str | Region | Iterable[int] | None) -> str | tuple[int, ...] | None:
    """A region as `WantedProperty` holds it: its text, or map pixels."""
    if region is None or isinstance(region, str):
        return region
    pixels: Any = region
    return tuple(int(pixel) for pixel in getattr(pixels, "pixels", pixels))


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value
