from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.properties import Inside
from tests.properties.maps import Map, at_the_image, changed, check_sign, tensor, top_sets


@given(changed(), st.data())
def test_by_counting(maps: tuple[Map, Map], data: st.DataObject) -> None:
    before, after = maps
    k = data.draw(st.integers(1, len(before) - 1))
    region = data.draw(st.permutations(range(len(before))))[: data.draw(st.integers(1, len(before) - 1))]
    keep = data.draw(st.integers(1, min(k, len(region))))
    assume(k - keep + 1 <= len(before) - len(region))  # else no map breaks it
    cam, top = at_the_image(before, k)
    kept = [len(found & set(region)) >= keep for found in top_sets(after, k)]
    check_sign(float(Inside(keep, tuple(region)).formula(cam, top).margin(tensor(after))), kept)


def test_what_cannot_be_asked() -> None:
    cam, top = at_the_image([4, 3, 2, 1], 3)
    with pytest.raises(UsageError, match="nothing can break it"):
        Inside(1, (0, 1)).formula(cam, top)
    for keep in (0, 3):
        with pytest.raises(UsageError, match="expected 1-2"):
            Inside(keep, (0, 1)).formula(cam, top)
    with pytest.raises(UsageError, match="region"):
        Inside(1, ()).formula(cam, top)


def test_words() -> None:
    assert str(Inside(12, (1,)).statement(15)) == "at least 12 of the 15 largest pixels lie inside the region"
    assert str(Inside(1, (1,)).statement(15)) == "at least 1 of the 15 largest pixels lies inside the region"
