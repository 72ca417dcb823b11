"""At which sample counts growing sums are looked at, whatever the user does in between (theory 7.2).

Rung m has 100 * 2^m samples and the share 1 / ((m + 1) (m + 2)) of the failure probability; all shares add up
to 1. A certificate is computed from the sums at the highest complete rung. Counts and shares are fixed before
any noise is drawn, so whoever stops, goes on, or chooses how many samples to add by what was seen only ever
sees certificates of rungs, and all of them are right at once with the stated probability.
"""

from __future__ import annotations

FIRST = 100
"""Samples of rung 0."""


def rung_of(samples: int) -> int | None:
    """The highest complete rung of so many samples; None below the first."""
    return None if samples < FIRST else (samples // FIRST).bit_length() - 1


def samples_of(rung: int) -> int:
    """Samples of a rung."""
    return FIRST << rung


def share_of(rung: int) -> float:
    """The share of the failure probability that a rung may use, rounded down."""
    return 1 / ((rung + 1) * (rung + 2)) * (1 - 1e-15)
