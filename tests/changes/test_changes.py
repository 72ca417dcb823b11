"""Each change by name is the set that its words say, and what is wrong is refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.changes.family import Family
from corgi.changes.given import Basis
from corgi.changes.interface import Sum
from corgi.changes.lens import blurred
from corgi.changes.light import Brightness, Colour, Shadow
from corgi.changes.names import GIVEN, PLAIN, Reader, parse_change, read_change
from corgi.changes.weather import Towards
from corgi.data.region import read_region
from corgi.data.window import Window
from corgi.errors import CorgiError, ImageError, UsageError

IMAGE = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
OTHER = torch.rand(3, 6, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
WINDOW = Window.whole((6, 5))


@pytest.fixture
def reader() -> Reader:
    return Reader(
        lambda path: OTHER.numpy().astype(np.float32), lambda text: read_region(text, WINDOW, (6, 5))
    )


def at(family: Family, *point: float) -> torch.Tensor:
    return family.at(torch.tensor([point], dtype=torch.float64))[0]


def test_plain_changes_are_what_their_words_say(reader: Reader) -> None:
    t = 0.2
    expected = {
        "brightness": IMAGE + t,
        "contrast": IMAGE.mean() + (1 + t) * (IMAGE - IMAGE.mean()),
        "darken": (1 - t) * IMAGE,
        "fog": (1 - t) * IMAGE + t,
        "blur": (1 - t) * IMAGE + t * blurred(IMAGE),
        "sharpen": IMAGE + t * (IMAGE - blurred(IMAGE)),
    }
    for name, image in expected.items():
        family = read_change(name, reader).family(IMAGE)
        assert family.dimensions == 1
        assert torch.allclose(at(family, t), image.clamp(0, 1), atol=1e-14)
        assert torch.equal(at(family, 0.0), IMAGE)
        low, high = family.box(0.3)
        assert (low, high) == ((-0.3 if name in ("brightness", "contrast") else 0.0,), (0.3,))
    assert set(expected) | {"colour"} == set(PLAIN)


def test_what_stands_behind_a_colon(reader: Reader, tmp_path: Path) -> None:
    for name in ("haze", "towards"):
        family = read_change(f"{name}:some+fog.png", reader).family(IMAGE)
        assert torch.allclose(at(family, 1.0), OTHER.to(torch.float32).to(torch.float64))
        assert family.two_sided == (False,)
    shadow = read_change("shadow:0,1,2,3", reader).family(IMAGE)
    dark = at(shadow, 1.0)
    assert not bool(dark[:, 1:4, 0:3].any())
    assert torch.equal(dark[:, 4:], IMAGE[:, 4:])
    assert torch.equal(dark[:, :, 3:], IMAGE[:, :, 3:])
    pattern = np.random.default_rng(0).normal(size=(3, 6, 5))
    np.save(tmp_path / "one.npy", pattern)
    np.save(tmp_path / "two.npy", np.stack([pattern, 2 * pattern]))
    one = read_change(f"noise-pattern:{tmp_path / 'one.npy'}", reader).family(IMAGE)
    assert torch.allclose(at(one, 0.1), (IMAGE + 0.1 * torch.from_numpy(pattern)).clamp(0, 1))
    two = read_change(f"basis:{tmp_path / 'two.npy'}", reader).family(IMAGE)
    assert two.names == ("basis 1", "basis 2")
    assert torch.allclose(at(two, 0.1, 0.2), (IMAGE + 0.5 * torch.from_numpy(pattern)).clamp(0, 1))


def test_colours_and_sums(reader: Reader) -> None:
    colour = read_change("colour", reader).family(IMAGE)
    gains = torch.tensor([1.1, 0.9, 1.2], dtype=torch.float64)[:, None, None]
    assert torch.allclose(at(colour, 0.1, -0.1, 0.2), (gains * IMAGE).clamp(0, 1))
    assert colour.names == ("red gain", "green gain", "blue gain")
    both = read_change("brightness+fog", reader)
    assert str(both) == "brightness+fog"
    family = both.family(IMAGE)
    assert family.box(0.5) == ((-0.5, 0.0), (0.5, 0.5))
    assert torch.allclose(at(family, -0.1, 0.3), (IMAGE - 0.1 + 0.3 * (1 - IMAGE)).clamp(0, 1))


def test_clipping_is_part_of_the_set() -> None:
    assert bool((at(Brightness().family(IMAGE), 1.0) == 1).all())
    assert bool((at(Brightness().family(IMAGE), -1.0) == 0).all())


def test_a_plus_in_the_name_of_a_file_is_no_sum() -> None:
    found = parse_change("haze:a+b.png+brightness+towards:fog+x.png")
    assert found == (("haze", "a+b.png"), ("brightness", ""), ("towards", "fog+x.png"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gamma", "no change 'gamma'"),
        ("", "no change ''"),
        ("brightness+gamma", "no change 'brightness+gamma'"),
        ("brightness+", "no change"),
        ("fog:3", "stands alone"),
        ("haze", "expected haze:IMAGE"),
        ("shadow:", "expected shadow:REGION"),
        ("fog+fog", "the same twice"),
        ("Brightness", "no change"),
    ],
)
def test_a_change_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_change(text)
    assert said in error.value.message
    if "no change" in said:
        assert all(name in (error.value.hint or "") for name in (*PLAIN, *GIVEN))


def test_what_does_not_fit_is_refused(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes 1 channels"):
        Colour().family(IMAGE[:1])
    with pytest.raises(UsageError, match="expected some of the pixels 0-29"):
        Shadow((30,)).family(IMAGE)
    with pytest.raises(UsageError, match=r"shape \[1, 3, 6, 4\]"):
        Towards(OTHER[:, :, :4]).family(IMAGE)
    with pytest.raises(UsageError, match=r"expected \['d', 3, 6, 5\]"):
        Basis(torch.zeros(3, 6, 5)).family(IMAGE)
    with pytest.raises(UsageError, match="no finite number"):
        Basis(torch.full((1, 3, 6, 5), torch.nan)).family(IMAGE)
    with pytest.raises(UsageError, match="fewer than two"):
        Sum((Brightness(),))
    np.save(tmp_path / "nan.npy", np.full((1, 3, 6, 5), np.nan))
    np.save(tmp_path / "text.npy", np.array(["a"]))
    (tmp_path / "broken.npy").write_bytes(b"no array")
    for name, said in (
        ("nan", "finite"),
        ("text", "expected numbers"),
        ("broken", "not a readable"),
        ("no", "no such"),
    ):
        with pytest.raises(ImageError, match=said) as error:
            read_change(f"basis:{tmp_path / name}.npy", reader)
        assert f"{name}.npy" in error.value.message
    with pytest.raises(CorgiError, match="outside of the picture"):
        read_change("shadow:0,0,9,9", reader)


def test_a_region_of_the_input_is_where_its_box_is() -> None:
    region = read_region("1,2,3,4", WINDOW, (6, 5))
    assert region.mask[2:5, 1:4].all()
    assert region.mask.sum() == 9
