from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.properties import Topk
from tests.properties.maps import Map, at_the_image, changed, check_sign, tensor, top_sets


@given(changed(), st.data())
def test_by_the_top_sets_themselves(maps: tuple[Map, Map], data: st.DataObject) -> None:
    before, after = maps
    k = data.draw(st.integers(1, len(before) - 1))
    k2 = data.draw(st.integers(k, len(before) - 1))
    cam, top = at_the_image(before, k)
    kept = [set(top.pixels) <= found for found in top_sets(after, k2)]
    check_sign(float(Topk(k2).formula(cam, top).margin(tensor(after))), kept)
    if k2 == k:
        assert Topk().formula(cam, top) == Topk(k).formula(cam, top)


def test_ranks_the_map_does_not_have() -> None:
    cam, top = at_the_image([4, 3, 2, 1], 3)
    for k2 in (2, 4):
        with pytest.raises(UsageError):
            Topk(k2).formula(cam, top)


def test_words() -> None:
    assert str(Topk().statement(15)) == "the 15 largest pixels stay the same"
    assert str(Topk().statement(1)) == "the largest pixel stays the same"
    assert str(Topk(20).statement(15)) == "the 15 largest pixels stay among the 20 largest"
    assert str(Topk(20).statement(1)) == "the largest pixel stays among the 20 largest"
