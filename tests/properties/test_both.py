from __future__ import annotations

import pytest
from hypothesis import given

from corgi.errors import UsageError
from corgi.properties import All, Both, Overlap, Pointing, Topk
from tests.properties.maps import Map, at_the_image, changed, tensor


@given(changed(least=4))
def test_all_of_them(maps: tuple[Map, Map]) -> None:
    before, after = maps
    cam, top = at_the_image(before, 2)
    parts = (Topk(3), Pointing((0, 2)))
    both = Both(parts).formula(cam, top)
    assert isinstance(both, All)
    margins = [float(part.formula(cam, top).margin(tensor(after))) for part in parts]
    assert float(both.margin(tensor(after))) == min(margins)


def test_names_and_words() -> None:
    both = Both((Pointing((1, 2)), Overlap(3)))
    assert both.name == "pointing+overlap"
    assert str(both.statement(4)) == (
        "the largest pixel lies inside the region, and at least 3 of the 4 largest pixels stay among the 4"
        " largest"
    )
    with pytest.raises(UsageError, match="fewer than two"):
        Both((Topk(),))
