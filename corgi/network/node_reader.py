"""What a conversion rule sees of a node, and the proof that it left nothing unread.

A rule reads attributes and constant operands through `NodeReader`; whatever it did not read is, by
construction, something corgi does not honour, and `finish` refuses the node for it. An attribute the file
leaves away has the standard's default (`standard.py`), never one of a rule's own: a rule says what absence
means only where the standard has no default.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from corgi.errors import ModelError, UnsupportedOperator
from corgi.network.node import Attribute, Node
from corgi.network.standard import attribute_default


class NodeReader:
    """One node during conversion.

    Attributes:
        node: the node.
        shapes: shape of every operand that varies with the image, batch size 1 included.
        opset: of the file.
    """

    def __init__(
        self,
        node: Node,
        constants: Mapping[str, np.ndarray],
        shapes: Mapping[str, tuple[int, ...]],
        opset: int,
    ) -> None:
        self.node = node
        self.opset = opset
        self._constants = constants
        self.shapes = shapes
        self._unread = set(node.attributes) | {
            name for name in node.inputs if name in constants and name not in shapes
        }

    @property
    def variables(self) -> tuple[str, ...]:
        """Operands that vary with the image, in order."""
        return tuple(name for name in self.node.inputs if name in self.shapes)

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of operand `index`, which must vary with the image."""
        name = self.node.inputs[index]
        if name not in self.shapes:
            self.refuse(f"operand {index} ('{name}') is a constant, expected a value of the network")
        return self.shapes[name]

    def is_constant(self, index: int) -> bool:
        """Whether operand `index` is a constant."""
        return self.node.inputs[index] not in self.shapes

    def has(self, index: int) -> bool:
        """Whether operand `index` is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] != ""

    def array(self, index: int) -> np.ndarray:
        """The constant operand `index`."""
        name = self.node.inputs[index]
        if name not in self._constants:
            self.refuse(f"operand {index} ('{name}') depends on the image, expected a constant")
        self._unread.discard(name)
        return self._constants[name]

    def tensor(self, index: int) -> Tensor:
        """The constant operand `index` as a float64 tensor."""
        array = self.array(index)
        if array.dtype.kind not in "fiu":
            self.refuse(f"operand {index} has type {array.dtype}, expected numbers")
        if not np.isfinite(array).all():
            raise ModelError(
                f"weight '{self.node.inputs[index]}' holds NaN or infinite values",
                hint="Export the model again.",
            )
        return torch.from_numpy(array.astype(np.float64))

    def limit(self, index: int) -> float:
        """The constant operand `index` as one number, which may be infinite."""
        array = self.array(index)
        if array.size != 1 or array.dtype.kind not in "fiu" or np.isnan(array).any():
            self.refuse(f"operand {index} of shape {list(array.shape)}", supported="one number")
        return float(array.reshape(()))

    def integers(self, index: int) -> tuple[int, ...]:
        """The constant operand `index` as integers."""
        return tuple(int(v) for v in self.array(index).reshape(-1))

    def _attribute(self, name: str, otherwise: Attribute | None = None) -> Attribute | None:
        """What the file says, else the standard, else `otherwise`."""
        self._unread.discard(name)
        default = attribute_default(self.node.op, name, self.opset)
        assert default is None or otherwise is None, f"{self.node.op}: the standard has a default of {name}"
        return self.node.attributes.get(name, otherwise if default is None else default)

    def int_attribute(self, name: str, otherwise: int | None = None) -> int:
        """An integer attribute, read."""
        value = self._attribute(name, otherwise)
        return value if isinstance(value, int) else self.refuse(f"attribute {name}={value!r} is no integer")

    def float_attribute(self, name: str) -> float:
        """A number attribute, read: a float32 number, exactly."""
        value = self._attribute(name)
        if not isinstance(value, int | float):
            self.refuse(f"attribute {name}={value!r} is no number")
        # Clip may have no limit, and what Pad puts in front of a MaxPool is never the maximum.
        if not math.isfinite(value) and name not in ("min", "max", "value"):
            self.refuse(f"attribute {name}={value}", supported="a finite number")
        return float(value)

    def choice(self, name: str, *accepted: str) -> str:
        """A string attribute, read, which must be one that corgi honours."""
        value = self._attribute(name)
        if not isinstance(value, str) or value not in accepted:
            self.refuse(f"attribute {name}={value}", supported=", ".join(accepted))
        return value

    def ints_attribute(self, name: str, otherwise: tuple[int, ...] = ()) -> tuple[int, ...]:
        """A list of integers, read; the standard's defaults of lists depend on operands: the rule knows."""
        value = self._attribute(name)
        if value is None:
            return otherwise
        if not isinstance(value, list):
            self.refuse(f"attribute {name}={value!r} is no list of integers")
        return tuple(int(v) for v in value)

    def floats_attribute(self, name: str) -> tuple[float, ...]:
        """A list of numbers, read; empty if it is not given."""
        self._unread.discard(name)
        value = self.node.attributes.get(name, [])
        if not isinstance(value, list):
            self.refuse(f"attribute {name}={value!r} is no list of numbers")
        return tuple(float(v) for v in value)

    def require(self, name: str, accepted: int) -> None:
        """Refuse unless an integer attribute, read, has the value corgi honours."""
        if (value := self.int_attribute(name)) != accepted:
            self.refuse(f"attribute {name}={value}", supported=f"{name}={accepted}")

    def refuse(self, reason: str, *, supported: str | None = None) -> NoReturn:
        """Raise the error for this node."""
        message = f"{self.node}: {reason} is not supported"
        raise UnsupportedOperator(message, hint=None if supported is None else f"Supported: {supported}.")

    def finish(self, outputs: int = 1) -> None:
        """Refuse the node if anything it says was not read, or it has more outputs than were made.

        Raises:
            UnsupportedOperator: an attribute or constant operand is left.
        """
        if self._unread:
            left = ", ".join(
                f"{name}={self.node.attributes[name]!r}"
                if name in self.node.attributes
                else f"operand '{name}'"
                for name in sorted(self._unread)
            )
            self.refuse(f"attribute {left}")
        if any(self.node.outputs[outputs:]):
            self.refuse(f"a further output ({', '.join(self.node.outputs[outputs:])})")
