"""Linear forms of a map, written on the feature map in which it is linear: I_p = sum_f w_f Y_fp."""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.engines.forms import Forms, pairs
from corgi.network.network import Network
from corgi.properties.formula import Ranking


def map_forms(
    network: Network, class_id: int, row: Tensor, pixel: Tensor, coefficient: Tensor, constant: Tensor
) -> Forms:
    """The forms sum_e coefficient_e I_pixel_e + constant.

    Args:
        network: with the map.
        class_id: whose map.
        row: the form of each entry, int64 [entries].
        pixel: of the map, int64 [entries]; none twice in one form.
        coefficient: float64 [entries], exact: the product with a weight is the one rounding `Forms` allows.
        constant: float64 [forms], rounded down.
    """
    weight = network.head.weight[class_id].to(torch.float64)
    read = weight.nonzero().reshape(-1)
    return Forms(
        row[:, None].expand(-1, len(read)).reshape(-1),
        (read[None, :] * network.pixels + pixel[:, None]).reshape(-1),
        (coefficient[:, None] * weight[read][None, :]).reshape(-1),
        constant,
    )


def pairs_of(network: Network, class_id: int, ranking: Ranking, above: Tensor, below: Tensor) -> Forms:
    """The margins of pairs of a ranking, pixels int64 [R] each, as forms."""
    if ranking.plain:
        return pairs(above, below)
    return scaled_pairs(network, class_id, above, below, ranking.up, ranking.down)


def scaled_pairs(
    network: Network, class_id: int, above: Tensor, below: Tensor, up: float, down: float
) -> Forms:
    """The forms up * I_above - down * I_below, int64 [R] each.

    Of a pixel against itself that is one coefficient, up - down.
    """
    row, ones = torch.arange(len(above)), torch.ones(len(above), dtype=torch.float64)
    same = above == below
    two = (~same).nonzero().reshape(-1)
    coefficient = torch.cat([torch.where(same, (up - down) * ones, up * ones), -down * ones[two]])
    pixel = torch.cat([above, below[two]])
    return map_forms(network, class_id, torch.cat([row, row[two]]), pixel, coefficient, 0 * ones)
