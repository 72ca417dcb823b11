"""What can be asked of a map, one file each; every property comes down to a formula (formula.py).

corgi.properties.Pointing(region)      # the largest pixel of the map lies inside the region
corgi.properties.Overlap(keep=12)      # at least 12 of the k largest stay among the k largest
"""

from __future__ import annotations

from corgi.properties.both import Both
from corgi.properties.centre import Centre
from corgi.properties.formula import All, Any, Balance, Formula, Ranking
from corgi.properties.inside import Inside
from corgi.properties.interface import Property
from corgi.properties.iou import Iou
from corgi.properties.order import Order
from corgi.properties.overlap import Overlap
from corgi.properties.pointing import Pointing
from corgi.properties.topk import Topk

__all__ = [
    "All",
    "Any",
    "Balance",
    "Both",
    "Centre",
    "Formula",
    "Inside",
    "Iou",
    "Order",
    "Overlap",
    "Pointing",
    "Property",
    "Ranking",
    "Topk",
]
