"""Damaged models: a flipped bit of a weight makes another model, most others make none."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx

from tests.hostile.models import SOURCES, proto, sound


def files(seed: int, count: int) -> Iterator[tuple[str, bytes, tuple[int, ...]]]:
    """`count` models after one damage each: a flipped bit, bytes put in, taken out, or swapped.

    Name, content and shape [C, H, W] of the input before the damage.
    """
    rng = np.random.default_rng(seed)
    models = [proto(sound()), *map(onnx.load, SOURCES)]
    shapes = [_input_shape(model) for model in models]
    sources = [models[0].SerializeToString(), *(source.read_bytes() for source in SOURCES)]
    for i in range(count):
        content = bytearray(sources[i % len(sources)])
        at = int(rng.integers(len(content)))
        match i // len(sources) % 4:
            case 0:
                content[at] ^= 1 << int(rng.integers(8))
                how = "flip"
            case 1:
                content[at:at] = rng.bytes(int(rng.integers(1, 9)))
                how = "insert"
            case 2:
                del content[at : at + int(rng.integers(1, 9))]
                how = "delete"
            case _:
                content[at : at + 4] = bytes(reversed(content[at : at + 4]))
                how = "swap"
        yield f"{how}-{i}", bytes(content), shapes[i % len(sources)]


def _input_shape(model: onnx.ModelProto) -> tuple[int, ...]:
    (_, *sizes) = (d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    return tuple(sizes)
