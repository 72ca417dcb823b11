"""Margins of top-k sets, for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.properties.topk import stays
from corgi.results import TopK


def decision_margin(cams: Tensor, top: TopK, k2: int) -> Tensor:
    """How far maps [..., pixels] are from losing a set: < 0 exactly where it is broken."""
    return stays(top, k2, cams.shape[-1]).margin(cams)


def lost_pixels(cam: Tensor, top: TopK, k2: int) -> tuple[int, ...]:
    """Pixels of the set that are not among the k2 largest of a map."""
    return stays(top, k2, cam.numel()).lost(cam)


def outside(top: TopK, pixels: int) -> Tensor:
    """The pixels not in the set, ascending: int64 [pixels - k]."""
    mask = torch.ones(pixels, dtype=torch.bool)
    mask[list(top.pixels)] = False
    return mask.nonzero().reshape(-1)
