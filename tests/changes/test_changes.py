"""Each change by name is the set that its words say, and what is wrong is refused in words."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from corgi.changes.family import Family
from corgi.changes.gamma import Gamma
from corgi.changes.geometry import Motion, Rotation, Scale, Shift
from corgi.changes.given import Basis
from corgi.changes.interface import Sum
from corgi.changes.lens import blurred
from corgi.changes.light import Brightness, Colour, Shadow
from corgi.changes.names import GIVEN, PLAIN, Reader, parse_change, read_change, unit_of
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
    assert set(expected) | {"colour", "gamma", "rotation", "shift", "scale"} == set(PLAIN)


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
        ("mist", "no change 'mist'"),
        ("", "no change ''"),
        ("brightness+mist", "no change 'brightness+mist'"),
        ("brightness+", "no change"),
        ("fog:3", "stands alone"),
        ("haze", "expected haze:IMAGE"),
        ("shadow:", "expected shadow:REGION"),
        ("fog+fog", "the same twice"),
        ("Brightness", "no change"),
        ("rotation:2", "stands alone, without :2"),
        ("rotation+brightness", "rotation stands alone"),
        ("haze:a.png+shift", "shift stands alone"),
        ("gamma+fog", "gamma stands alone"),
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
    with pytest.raises(UsageError, match="gamma and shift in a sum"):
        Sum((Brightness(), Gamma(), Shift()))
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


def seen_through(image: torch.Tensor, matrix: list[list[float]]) -> torch.Tensor:
    """What torch makes of places c + M (X - c, Y - c) + shift, in pixels [[a, b, shift], ...]."""
    height, width = image.shape[1:]
    y, x = torch.meshgrid(
        *(torch.arange(size, dtype=torch.float64) for size in (height, width)), indexing="ij"
    )
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    u, v = (row[0] * x + row[1] * y + row[2] for row in matrix)
    # Of places from -1 to 1, from edge to edge of the image: `align_corners=False`.
    grid = torch.stack([u / (width / 2), v / (height / 2)], -1)[None]
    options = {"mode": "bilinear", "padding_mode": "border", "align_corners": False}
    return torch.nn.functional.grid_sample(image[None], grid, **options)[0]


@pytest.mark.parametrize("shape", [(3, 6, 5), (1, 7, 7), (2, 1, 4), (1, 1, 1)])
@pytest.mark.parametrize("t", [0.0, 0.5, -1.0, 13.7, 60.0])
def test_motions_are_those_of_torch(t: float, shape: tuple[int, int, int]) -> None:
    image = torch.rand(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    angle, factor = math.radians(t), 1 / (1 + t / 61)
    cosine, sine = math.cos(angle), math.sin(angle)
    cases: list[tuple[Motion, tuple[float, ...], list[list[float]]]] = [
        (Rotation(), (t,), [[cosine, -sine, 0], [sine, cosine, 0]]),
        (Shift(), (t, 0.3), [[1, 0, -t], [0, 1, -0.3]]),
        (Scale(), (t / 61,), [[factor, 0, 0], [0, factor, 0]]),
    ]
    for change, point, matrix in cases:
        family = change.family(image)
        assert torch.allclose(at(family, *point), seen_through(image, matrix), atol=1e-12)
        assert torch.equal(at(family, *(0.0 for _ in point)), image)


def test_motions_go_where_their_words_say() -> None:
    dot = torch.zeros(1, 5, 5, dtype=torch.float64)
    dot[0, 2, 3] = 1
    assert float(at(Shift().family(dot), 1.0, -2.0)[0, 0, 4]) == 1
    # Counter-clockwise: what is on the right goes to the top.
    family = Rotation().family(dot)
    turned = family.at(torch.tensor([[45.0], [89.0]], dtype=torch.float64))
    assert int(turned[1, 0].argmax()) == 1 * 5 + 2
    assert float(turned[0, 0, 1, 3]) > 0.1
    # Larger for t > 0: the dot moves away from the centre.
    assert float(at(Scale().family(dot), 0.9)[0, 2, 4]) > 0
    assert family.names == ("degrees counter-clockwise",)


def test_a_motion_in_parts_is_the_same() -> None:
    """However many images are made at once."""
    family = Rotation().family(IMAGE)
    points = torch.linspace(-20, 20, 30000, dtype=torch.float64)[:, None]
    found = family.at(points)
    assert torch.allclose(found[-1], family.at(points[-1:])[0], atol=1e-14)
    assert torch.allclose(found[0], family.at(points[:1])[0], atol=1e-14)
    assert found.shape == (30000, 3, 6, 5)


def test_gamma_is_a_power() -> None:
    family = Gamma().family(IMAGE)
    assert torch.allclose(at(family, 0.2), IMAGE**1.2)
    assert torch.equal(at(family, 0.0), IMAGE)
    ends = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    assert torch.equal(at(Gamma().family(ends), -0.5), ends)


def test_units() -> None:
    units = {name: unit_of(name) for name in PLAIN}
    assert {name: unit for name, unit in units.items() if unit} == {"rotation": "degrees", "shift": "pixels"}
    assert unit_of("haze:a.png+fog") == ""
