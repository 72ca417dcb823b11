"""Padding (-infinity, edge, reflect, wrap) in front of a MaxPool, where it is what a MaxPool does anyway.

-infinity is what MaxPool itself pads with. Otherwise a padded entry is a copy of an entry of the value; where
every window that holds a copy holds the entry it is a copy of, too, the copy never changes the maximum.
Windows are products of rows and columns, so this is looked at axis by axis, window by window.
"""

from __future__ import annotations

import math
from dataclasses import replace

from corgi.network import layers
from corgi.network.convert import Converted, Step


def pool_padding(found: Converted) -> Converted:
    """The same network with padding that a MaxPool makes unnecessary as that of the MaxPool."""
    makers = {step.output: step for step in found.module.steps}
    return found.with_steps(_merged(step, makers.get(step.inputs[0]), found) for step in found.module.steps)


def _merged(step: Step, before: Step | None, found: Converted) -> Step:
    pool = step.layer
    if before is None or not isinstance(pool, layers.MaxPool):
        return step
    match before.layer:
        case layers.Pad(value=value, before=(0, 0, *first), after=(0, 0, *last)) if value == -math.inf:
            return _padded(step, pool, before, (*first, *last))
        case layers.Border():
            return _with_copies(step, pool, before, found)
    return step


def _padded(step: Step, pool: layers.MaxPool, before: Step, more: tuple[int, ...]) -> Step:
    """The pool with so much more padding (top, left, bottom, right), on what was padded."""
    top, left, bottom, right = (a + b for a, b in zip(pool.pads, more, strict=True))
    pads = top, left, bottom, right
    merged = layers.MaxPool(pool.kernel, pool.stride, pads, pool.dilation, pool.ceil_mode)
    return replace(step, layer=merged, inputs=before.inputs)


def _with_copies(step: Step, pool: layers.MaxPool, before: Step, found: Converted) -> Step:
    assert isinstance(before.layer, layers.Border)
    border, (rows, columns) = before.layer, found.shapes[step.output][2:]
    if border.entries[0] is not None or border.entries[1] is not None:
        return step
    top, left, *_ = pool.pads
    for axis, first, count in ((2, top, rows), (3, left, columns)):
        entries = border.entries[axis]
        if entries is None:
            continue
        inside = range(border.before[axis], border.before[axis] + found.shapes[before.inputs[0]][axis])
        for window in range(count):
            start = window * pool.stride[axis - 2] - first
            places = range(
                start, start + pool.kernel[axis - 2] * pool.dilation[axis - 2], pool.dilation[axis - 2]
            )
            known = [place for place in places if 0 <= place < len(entries)]
            own = {entries[place] for place in known if place in inside}
            if not own or {entries[place] for place in known} != own:
                return step
    after = [
        0 if entries is None else len(entries) - border.before[axis] - found.shapes[before.inputs[0]][axis]
        for axis, entries in enumerate(border.entries)
    ]
    return _padded(step, pool, before, (*border.before[2:], *after[2:]))
