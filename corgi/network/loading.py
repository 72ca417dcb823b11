"""How a model file is read, as one value that can be asked again elsewhere; imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corgi.terms import MapKind

if TYPE_CHECKING:
    from corgi.network.network import Network
    from corgi.network.wrap import Normalisation


@dataclass(frozen=True)
class Loading:
    """How to read a model file: the arguments of `corgi.load`."""

    output: str | None = None
    size: tuple[int, int] | None = None
    normalisation: Normalisation | None = None
    map_kind: MapKind = MapKind.CAM
    layer: str | None = None
    class_names: Path | None = None

    def load(self, model: Path) -> Network:
        """The network of a file. See `corgi.load` for errors."""
        from corgi.network.network import load

        return load(
            model,
            output=self.output,
            size=self.size,
            normalisation=self.normalisation,
            map_kind=self.map_kind,
            layer=self.layer,
            class_names=self.class_names,
        )

    def parameters(self) -> dict[str, Any]:
        """What was asked, as JSON has it: beside the file, the network depends on nothing else."""
        from corgi.network.wrap import Normalisation

        normal = self.normalisation or Normalisation()
        return {
            "output": self.output,
            "size": self.size,
            "mean": normal.mean,
            "std": normal.std,
            "scale": normal.scale,
            "colour_order": normal.colour_order.value,
            "map": self.map_kind.value,
            "layer": self.layer,
            "class_names": self.class_names and sha256(self.class_names.read_bytes()).hexdigest(),
        }
