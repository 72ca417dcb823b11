"""Recognise group normalisation: as exporters write it, an instance normalisation of a reshaped value.

[N, C, H, W] is reshaped to [N, G, C / G H W], so that every group of channels is one row; each row is
normalised, and the value takes its old shape again. Scale and shift of a row become those of its channels.
"""

from __future__ import annotations

from dataclasses import replace

from corgi.network import layers
from corgi.network.convert import Converted, Step


def group_normalisations(found: Converted) -> Converted:
    """The same network with such chains as one layer each; values that nobody reads any more are gone."""
    made = {step.output: step for step in found.module.steps}
    return found.with_steps(_grouped(step, made, found) or step for step in found.module.steps)


def _grouped(step: Step, made: dict[str, Step], found: Converted) -> Step | None:
    """What a reshape is that brings a normalised value back to its old shape; None if it is another one."""
    norm = made.get(step.inputs[0])
    if norm is None or not isinstance(step.layer, layers.Reshape):
        return None
    before = made.get(norm.inputs[0])
    if before is None or not (
        isinstance(before.layer, layers.Reshape) and isinstance(norm.layer, layers.Standardise)
    ):
        return None
    (source,), rows, layer = before.inputs, found.shapes[norm.output], norm.layer
    shape = found.shapes[source]
    if (len(shape), len(rows), layer.axes, layer.groups) != (4, 3, (2,), 1) or found.shapes[
        step.output
    ] != shape:
        return None
    groups = rows[1]
    if shape[1] % groups or layer.scale.shape != (groups, 1) or layer.shift.shape != (groups, 1):
        return None
    each = shape[1] // groups
    scale, shift = (v.repeat_interleave(each, 0)[:, :, None] for v in (layer.scale, layer.shift))
    whole = layers.Standardise((1, 2, 3), layer.epsilon, scale, shift, groups)
    return replace(norm, layer=whole, inputs=(source,), output=step.output)
