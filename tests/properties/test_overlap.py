from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.properties import Overlap
from tests.properties.maps import Map, at_the_image, changed, check_sign, tensor, top_sets


@given(changed(), st.data())
def test_by_the_top_sets_themselves(maps: tuple[Map, Map], data: st.DataObject) -> None:
    """At least `keep` of T are in the top-k set: in all that ties allow, in some, in none."""
    before, after = maps
    k = data.draw(st.integers(1, len(before) - 1))
    cam, top = at_the_image(before, k)
    keep = data.draw(st.integers(max(1, 2 * k - len(before) + 1), k))
    kept = [len(found & set(top.pixels)) >= keep for found in top_sets(after, k)]
    check_sign(float(Overlap(keep).formula(cam, top).margin(tensor(after))), kept)


def test_what_no_map_can_break_is_refused() -> None:
    """Of 4 pixels two sets of 3 share 2."""
    cam, top = at_the_image([4, 3, 2, 1], 3)
    assert Overlap(3).formula(cam, top).single
    with pytest.raises(UsageError, match="nothing can break it"):
        Overlap(2).formula(cam, top)
    for keep in (0, 4):
        with pytest.raises(UsageError, match="expected 1-3"):
            Overlap(keep).formula(cam, top)


def test_words() -> None:
    statement = Overlap(12).statement(15)
    assert str(statement) == "at least 12 of the 15 largest pixels stay among the 15 largest"
    assert statement.name == "overlap"
