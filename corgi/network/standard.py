"""What the ONNX standard says where a file says nothing: attribute defaults, from the schemas of onnx.

Defaults of type FLOAT are float32 numbers: 0.01 means 0.00999999977648258. A file that writes its attribute
out and one that leaves it away are one network, so they have to be read as the same number.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import onnx

Default = int | float | str | list[int] | list[float]

HARD_SWISH_ALPHA, HARD_SWISH_BETA = float(np.float32(1 / 6)), 0.5
"""HardSwish is x * HardSigmoid(x) with these attributes (its function body), attributes being float32."""

GELU_LINEAR = math.sqrt(float(np.float32(2 / math.pi)))
GELU_CUBIC = GELU_LINEAR * float(np.float32(0.044715))
"""Gelu with approximate=tanh is x (1 + tanh(GELU_LINEAR x + GELU_CUBIC x^3)) / 2 (its function body)."""


@functools.cache
def attribute_default(op: str, name: str, opset: int) -> Default | None:
    """The default of an attribute of a standard operator; None where the standard names none.

    A version of the operator that does not know the attribute means what the nearest version that does would
    mean without it, an older one first: attributes that became operands kept their defaults, and attributes
    that were added have the default that changes nothing.
    """
    newest = onnx.defs.onnx_opset_version()
    for version in (*range(min(opset, newest), 0, -1), *range(opset + 1, newest + 1)):
        if not onnx.defs.has(op, version, ""):
            continue
        attribute = onnx.defs.get_schema(op, version, "").attributes.get(name)
        if attribute is None:
            continue
        if attribute.default_value.type == onnx.AttributeProto.UNDEFINED:
            return None
        value = onnx.helper.get_attribute_value(attribute.default_value)
        return value.decode() if isinstance(value, bytes) else value
    return None
