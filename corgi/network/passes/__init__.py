"""Rewritings of a converted network: each keeps the function, and the name of every value it leaves."""

from __future__ import annotations

from functools import reduce

from corgi.network.convert import Converted
from corgi.network.passes.activations import recognise_activations
from corgi.network.passes.borders import pool_padding
from corgi.network.passes.groups import group_normalisations
from corgi.network.passes.layout import channels_first
from corgi.network.passes.shuffle import channel_shuffles

PASSES = (group_normalisations, channel_shuffles, channels_first, pool_padding, recognise_activations)
"""In their order; `limits.py`, which holds for images alone, comes before."""


def simplified(found: Converted) -> Converted:
    """The same network after all passes."""
    return reduce(lambda network, rewritten: rewritten(network), PASSES, found)
