from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corgi.cam.topk import top_k
from corgi.errors import UsageError
from corgi.properties import Order
from tests.properties.maps import tensor

MAP = st.lists(st.integers(-6, 12), min_size=6, max_size=6)


@given(MAP, MAP, st.data())
def test_every_one_above_every_one(before: list[int], after: list[int], data: st.DataObject) -> None:
    """On a map of 2 x 3."""
    places = data.draw(st.permutations([(row, column) for row in range(2) for column in range(3)]))
    size = data.draw(st.integers(1, 5))
    above, below = tuple(places[:size]), tuple(places[size:])
    cam = tensor(before, 2, 3)
    margin = float(Order(above, below).formula(cam, top_k(cam, 1, 0.0)).margin(tensor(after)))
    gaps = [after[3 * a + b] - after[3 * c + d] for a, b in above for c, d in below]
    assert margin * 8 == min(gaps)


def test_what_cannot_be_asked() -> None:
    cam = tensor([4, 3, 2, 1], 2, 2)
    top = top_k(cam, 1, 0.0)
    for above, below, what in (
        (((2, 0),), ((0, 1),), "pixel [2, 0] of a map of 2 x 2"),
        (((0, 0),), ((0, -1),), "pixel [0, -1]"),
        (((0, 0),), ((0, 0),), "none on both sides"),
        ((), ((0, 0),), "expected pixels above"),
        (((0, 0),), (), "expected pixels above"),
    ):  # fmt: skip
        with pytest.raises(UsageError) as error:
            Order(above, below).formula(cam, top)
        assert what in error.value.message
    twice = Order(((0, 0), (0, 0)), ((1, 1), (1, 1))).formula(cam, top)
    assert twice.single


def test_words() -> None:
    assert str(Order(((1, 2),), ((3, 4),)).statement(15)) == "pixel [1, 2] stays above pixel [3, 4]"
    assert "each of 2 pixels" in str(Order(((1, 2), (0, 0)), ((3, 4),)).statement(15))
