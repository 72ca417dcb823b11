from __future__ import annotations

import io

import numpy as np
import pytest
from example_results import NETWORK, RESULTS, make_cam, make_image, make_result, top_of
from PIL import Image

from corgi.certify.attack import AttackResult
from corgi.certify.explain import Explanation
from corgi.properties import Topk
from corgi.reporting.picture import (
    attack_picture,
    cam_picture,
    changes,
    display,
    picture_bytes,
    properties_picture,
    verify_picture,
)
from corgi.results import VerifyResult, VerifyResults
from corgi.terms import PICTURE_FORMATS, Norm


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def test_every_result_can_be_drawn(result: VerifyResult) -> None:
    figure = verify_picture(result)
    image = Image.open(io.BytesIO(picture_bytes(figure, "png")))
    assert image.width == 1800
    shown = " ".join(titles(figure))
    witness = result.attack is not None and result.attack.witness is not None
    assert ("witness at distance" in shown) == witness
    assert ("the same set" in shown or "among the" in shown) == (result.certificate.radius > 0)


def test_several_properties_are_drawn_one_below_the_other() -> None:
    shown = [RESULTS["certified"], RESULTS["unknown"]]
    figure = properties_picture(VerifyResults(tuple(shown), 1.0))
    assert len(figure.subfigs) == 2
    assert titles(figure) == [title for one in shown for title in titles(verify_picture(one))]


def test_equal_results_give_equal_pictures() -> None:
    first, second = (picture_bytes(verify_picture(make_result()), "png") for _ in range(2))
    assert first == second


@pytest.mark.parametrize("ending", PICTURE_FORMATS)
def test_every_format_can_be_written(ending: str) -> None:
    explanation = Explanation(17, 17, make_cam(), top_of(make_cam(), 5), 0.0, NETWORK, make_image())
    assert picture_bytes(cam_picture(explanation), ending)


def test_an_attack_can_be_drawn_with_and_without_witness() -> None:
    explanation = Explanation(17, 17, make_cam(), top_of(make_cam(), 15), 0.0, NETWORK, make_image())
    found, nothing = make_result().attack, RESULTS["unknown"].attack
    for attack, panels in ((found, 10), (nothing, 5)):
        result = AttackResult(explanation, attack, Topk(), Norm.LINF, None, 0, False)
        assert len(titles(attack_picture(result))) == panels


@pytest.mark.parametrize("k2", [15, 25])
def test_changes_split_the_sets(k2: int) -> None:
    result = make_result(k2=k2)
    witness = result.attack.witness
    kept, lost, gained = changes(result.top, witness, k2)
    assert set(kept) | set(lost) == set(result.top.pixels)
    assert lost
    assert set(kept) | set(gained) == set(top_of(witness.cam, k2).pixels)


def test_images_of_any_channels_are_shown_in_colour() -> None:
    assert display(make_image(1)).shape == (48, 48, 3)
    assert display(np.zeros((5, 4, 3), dtype=np.float32)).shape == (4, 3, 3)
