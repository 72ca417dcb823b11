from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.errors import UsageError
from corgi.properties import Pointing
from tests.properties.maps import Map, at_the_image, changed, check_sign, tensor


@given(changed(), st.data())
def test_by_the_largest_pixel(maps: tuple[Map, Map], data: st.DataObject) -> None:
    """All pixels that may be called the largest are inside, or some, or none."""
    before, after = maps
    region = data.draw(st.permutations(range(len(before))))[: data.draw(st.integers(1, len(before) - 1))]
    cam, top = at_the_image(before, 1)
    formula = Pointing(tuple(region)).formula(cam, top)
    largest = [p for p, value in enumerate(after) if value == max(after)]
    check_sign(float(formula.margin(tensor(after))), [p in region for p in largest])
    if bool(formula.margin(tensor(before)) > 0) and not set(largest) & set(region):
        (pixel,) = formula.lost(tensor(after), tensor(before))[:1]
        assert pixel in region


@pytest.mark.parametrize("region", [(), (0, 1, 2), (-1,), (3,), (0, 7)])
def test_regions_that_are_none(region: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="region"):
        Pointing(region).formula(*at_the_image([3, 2, 1], 1))


def test_words() -> None:
    statement = Pointing((3, 4)).statement(15)
    assert str(statement) == "the largest pixel lies inside the region"
    assert statement.region == (3, 4)
