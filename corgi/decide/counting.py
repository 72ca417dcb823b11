"""What pairs say of a ranking: the counting bound.

A ranking is broken at a point only if `lost` pixels of A stand at or below `gained` pixels of B there, each
of the ones at or below each of the others. Pairs (i, p) whose margin I_i - I_p is known to be > 0 on the
whole ball take no part in that. So with the pairs that stay open as the edges of a graph, it can be broken
only where the graph has a complete bipartite subgraph of lost x gained.

A pixel of A in such a subgraph has at least `gained` open pairs with the others in it, a pixel of B `lost`.
Pixels with fewer are taken away until no more are: what remains, the core, holds every such subgraph. Where
it is empty there is none. With lost = 1, or gained = 1, the converse is true, too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from corgi.properties.formula import Ranking


def core(opened: Tensor, lost: int, gained: int) -> Tensor:
    """The pairs of a bool [A, B] that can belong to a complete subgraph of lost x gained."""
    found = opened.clone()
    while True:
        rows, columns = found.sum(1) >= gained, found.sum(0) >= lost
        if int(rows.sum()) < lost or int(columns.sum()) < gained:
            return torch.zeros_like(found)
        kept = found & rows[:, None] & columns[None, :]
        if torch.equal(kept, found):
            return found
        found = kept


def counted(margins: Tensor, ranking: Ranking) -> float:
    """A lower bound of a ranking's margin over a ball, by lower bounds of all pairs' margins: [A, B].

    The largest value that is proved: the core of the pairs that are below it is empty. A NaN bounds nothing.
    """
    margins = margins.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
    lost, gained = ranking.lost_count, ranking.gained
    if lost == 1:
        return float(margins.kthvalue(gained, dim=1).values.min())
    if gained == 1:
        return float(margins.kthvalue(lost, dim=0).values.min())
    # The bound is the least value whose pairs up to it have a core, and that is one of the margins.
    values = torch.unique(margins)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if bool(core(margins <= values[middle], lost, gained).any()):
            high = middle
        else:
            low = middle + 1
    return float(values[low])
