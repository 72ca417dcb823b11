"""Images of families that are curves in their parameters lie in their affine forms: in many digits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import mpmath
import numpy as np
import pytest
import torch
from mpmath import mpf
from torch import Tensor

from corgi.changes.family import Family
from corgi.changes.gamma import Gamma
from corgi.changes.geometry import Motion, MotionFamily, Rotation, Scale, Shift
from corgi.changes.interface import Change
from corgi.engines.forward import moved as moved_module
from corgi.engines.forward import places as module
from corgi.engines.forward.images import images
from corgi.engines.parametric import AffineForms, Boxes
from corgi.errors import EngineError

DTYPE = torch.float64
DIGITS = 40

Point = tuple[float, ...]
Place = tuple[mpf, mpf]


def turned(point: Point, x: mpf, y: mpf) -> Place:
    angle = mpmath.pi * mpf(point[0]) / 180
    return mpmath.cos(angle) * x - mpmath.sin(angle) * y, mpmath.sin(angle) * x + mpmath.cos(angle) * y


def shifted(point: Point, x: mpf, y: mpf) -> Place:
    return x - mpf(point[0]), y - mpf(point[1])


def scaled(point: Point, x: mpf, y: mpf) -> Place:
    return x / (1 + mpf(point[0])), y / (1 + mpf(point[0]))


MOTIONS: dict[str, tuple[Motion, Callable[[Point, mpf, mpf], Place]]] = {
    "rotation": (Rotation(), turned),
    "shift": (Shift(), shifted),
    "scale": (Scale(), scaled),
}


def moved_exactly(image: np.ndarray, name: str, point: Point) -> list[mpf]:
    """All values of the image at a point, in the order of its array."""
    channels, height, width = image.shape
    middle = mpf(width - 1) / 2, mpf(height - 1) / 2
    found = []
    for channel in range(channels):

        def pixel(x: int, y: int, channel: int = channel) -> mpf:
            return mpf(float(image[channel, min(max(y, 0), height - 1), min(max(x, 0), width - 1)]))

        for y in range(height):
            for x in range(width):
                u, v = MOTIONS[name][1](point, x - middle[0], y - middle[1])
                u, v = u + middle[0], v + middle[1]
                column, row = int(mpmath.floor(u)), int(mpmath.floor(v))
                a, b = u - column, v - row
                upper = (1 - a) * pixel(column, row) + a * pixel(column + 1, row)
                lower = (1 - a) * pixel(column, row + 1) + a * pixel(column + 1, row + 1)
                found.append((1 - b) * upper + b * lower)
    return found


def power_exactly(image: np.ndarray, point: Point) -> list[mpf]:
    return [mpf(float(x)) ** (1 + mpf(point[0])) for x in image.flatten()]


def points_in(lower: Point, upper: Point, shares: Iterable[float]) -> Iterator[Point]:
    """Ends, the middle as `Boxes` has it, and a few between; floats that lie in the box."""
    middle = Boxes(torch.tensor([lower], dtype=DTYPE), torch.tensor([upper], dtype=DTYPE)).middle[0].tolist()
    yield from (lower, upper, tuple(middle), (lower[0], *upper[1:]), (upper[0], *lower[1:]))
    for share in shares:
        yield tuple(min(max(a + float(share) * (b - a), a), b) for a, b in zip(lower, upper, strict=True))


def hold(
    family: Family, lower: Point, upper: Point, shares: Iterable[float], exactly: Callable
) -> AffineForms:
    """Exact values at points of a box lie in the forms there, without any slack; float64's nearly do."""
    boxes = Boxes(torch.tensor([lower], dtype=DTYPE), torch.tensor([upper], dtype=DTYPE))
    found = images(family, boxes)
    assert found.terms.shape == (1, 1 + family.dimensions, *family.image.shape)
    terms, remainder = found.terms[0].flatten(1).tolist(), found.remainder[0].flatten().tolist()
    with mpmath.workdps(DIGITS):
        half = [mpf(h) for h in boxes.half[0].tolist()]
        middle = [mpf(m) for m in boxes.middle[0].tolist()]
        for point in points_in(lower, upper, shares):
            share = [(mpf(t) - m) / h if h else mpf(0) for t, m, h in zip(point, middle, half, strict=True)]
            assert all(abs(s) <= 1 for s in share)
            values = exactly(family.image.numpy(), point)
            computed = family.at(torch.tensor([point], dtype=DTYPE))[0].flatten().tolist()
            for i, value in enumerate(values):
                form = terms[0][i] + sum(mpf(g[i]) * s for g, s in zip(terms[1:], share, strict=True))
                assert abs(value - form) <= mpf(remainder[i]), (point, i)
                assert abs(value - computed[i]) <= 1e-12
    return found


def picture(rng: np.random.Generator, kind: str | None = None) -> Tensor:
    """An image of float32 numbers: any, constant, or with 0 and 1 side by side; 1 x 1 to 6 x 6."""
    shape = (int(rng.integers(1, 3)), *map(int, rng.integers(1, 7, 2)))
    kind = kind or str(rng.choice(["any", "constant", "sharp"]))
    if kind == "constant":
        image = np.full(shape, rng.random())
    elif kind == "sharp":
        image = rng.integers(0, 2, shape).astype(float)
    else:
        image = rng.random(shape) ** rng.choice([1, 8])
    return torch.from_numpy(image.astype(np.float32)).to(DTYPE)


def large(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


SIDES = (0.0, 1e-16, 1e-12, 1e-7, 1e-3, 0.1, 1.0)
REACH = {"rotation": 89.0, "shift": 7.0, "scale": 0.9}
GRID = (0.0, 1.0, -1.0, 0.5, 45.0, 2.0**-40)
"""Parameters at which places are pixels, or nearly."""


def box_of(name: str, rng: np.random.Generator, sides: tuple[float, ...] = SIDES) -> tuple[Point, Point]:
    """Whole and half pixels among its ends, or one point, or places far outside of the image."""
    reach, count = REACH[name], len(MOTIONS[name][0].parameters)
    ends = rng.choice([*GRID, rng.uniform(-reach, reach)], count).clip(-reach, reach)
    side = rng.choice(sides) * rng.choice([1.0, reach / 2])
    lower = (ends - rng.choice([0.0, 0.4]) * side).clip(-reach, None)
    upper = (lower + side).clip(None, reach)
    lower, upper = (lower, upper) if rng.random() < 0.5 else (-upper, -lower)
    return tuple(lower.tolist()), tuple(upper.tolist())


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("seed", range(60))
def test_moved_images_in_many_digits(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    family = MOTIONS[name][0].family(picture(rng))
    lower, upper = box_of(name, rng)
    found = hold(family, lower, upper, rng.random(3), lambda image, t: moved_exactly(image, name, t))
    if lower == upper:
        assert not found.terms[:, 1:].any()
        assert float(found.remainder.max()) < 1e-10


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("seed", range(60))
def test_cells_that_are_left_out_are_made_up_for(
    seed: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if numbers had 26 bits: places that a rounding may be off by then are wide enough to fall into."""
    rng = np.random.default_rng(seed)
    family = MOTIONS[name][0].family(picture(rng, "sharp"))
    lower, upper = box_of(name, rng, (0.0, 1e-6, 3e-6, 1e-5, 1e-4))
    for one in (module, moved_module):
        monkeypatch.setattr(one, "roundings", lambda count: count * 2.0**-26)
    hold(family, lower, upper, rng.random(3), lambda image, t: moved_exactly(image, name, t))


@pytest.mark.parametrize("name", MOTIONS)
@pytest.mark.parametrize("seed", range(60))
def test_places_and_their_slopes_in_many_digits(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    family = MOTIONS[name][0].family(picture(rng))
    lower, upper = box_of(name, rng)
    boxes = Boxes(torch.tensor([lower], dtype=DTYPE), torch.tensor([upper], dtype=DTYPE))
    places, middle = module.places_of(family, boxes), tuple(boxes.middle[0].tolist())
    pixels = family.offsets[1:].T.tolist()
    with mpmath.workdps(DIGITS):
        for point in (middle, *points_in(lower, upper, rng.random(3))):
            for (pixel, (x, y)), axis in itertools.product(enumerate(pixels), (0, 1)):
                value = MOTIONS[name][1](point, mpf(x), mpf(y))[axis] + mpf(float(family.centre[axis]))
                at = (0, axis, pixel)
                error = mpf(float(places.error[at]))
                assert mpf(float(places.reached.lower[at])) - 2 * error <= value
                assert mpf(float(places.reached.upper[at])) + 2 * error >= value
                if point == middle:
                    assert abs(value - mpf(float(places.middle[at]))) <= error
                for j, slope in enumerate(slopes_exactly(name, point, mpf(x), mpf(y))):
                    assert mpf(float(places.slopes.lower[0, j, axis, pixel])) <= slope[axis]
                    assert mpf(float(places.slopes.upper[0, j, axis, pixel])) >= slope[axis]


def slopes_exactly(name: str, point: Point, x: mpf, y: mpf) -> list[Place]:
    """Of a place, by each parameter."""
    if name == "rotation":
        u, v = turned(point, x, y)
        return [(-mpmath.pi / 180 * v, mpmath.pi / 180 * u)]
    if name == "shift":
        return [(mpf(-1), mpf(0)), (mpf(0), mpf(-1))]
    u, v = scaled(point, x, y)
    return [(-u / (1 + mpf(point[0])), -v / (1 + mpf(point[0])))]


@pytest.mark.parametrize("seed", range(60))
def test_powers_in_many_digits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, lower = picture(rng), float(rng.uniform(-0.99, 0.99))
    upper = min(lower + float(rng.choice(SIDES)), 0.99)
    found = hold(Gamma().family(image), (lower,), (upper,), rng.random(3), power_exactly)
    still = (image == 0) | (image == 1)
    assert torch.equal(found.terms[0, 0][still], image[still])
    assert not found.remainder[0][still].any()


def test_powers_of_the_smallest_and_the_largest_pixels() -> None:
    """Float32's, to the last one before 0 and before 1, and some that only float64 has."""
    numbers = [2.0**-149, 2.0**-126, 1e-20, 1 - 2.0**-24, 1 - 2.0**-53, 1e-300, 1e-320, 1e-323, 5e-324]
    family = Gamma().family(torch.tensor(numbers, dtype=DTYPE).reshape(1, 1, -1))
    for lower, upper in (
        (-0.99, 0.99),
        (-0.95, 0.954),
        (-0.5, -0.49),
        (0.9, 0.9),
        (0.1, 0.1 + 1e-15),
        (-0.2, 0.2),
    ):
        hold(family, (lower,), (upper,), [0.3, 0.9], power_exactly)


@pytest.mark.parametrize("name", MOTIONS)
def test_remainders_fall_with_the_square_of_a_box(name: str) -> None:
    """Where no place crosses from one cell into another; and at 0, on whose side all places are edges."""
    family = MOTIONS[name][0].family(large(1, 1, 7, 6))
    assert isinstance(family, MotionFamily)
    start = {"rotation": 3.0, "shift": 0.3, "scale": 0.05}[name]
    unit = {"rotation": 1.0, "shift": 0.05, "scale": 0.01}[name]
    for low in (start, 0.0):
        sums = []
        for side in (0.1, 0.01):
            box = torch.full((1, family.dimensions), low, dtype=DTYPE)
            found = images(family, Boxes(box, box + side * unit))
            sums.append(float(found.remainder.sum()))
        assert sums[1] < sums[0] / 60


def test_many_boxes_are_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever others reach; and one that reaches too many cells is known to lie in [0, 1], no more."""
    family = Rotation().family(large(2, 2, 9, 8))
    lower = torch.tensor([[0.0], [-3.0], [20.0], [-80.0]], dtype=DTYPE)
    upper = torch.tensor([[0.5], [3.0], [20.0], [80.0]], dtype=DTYPE)
    together = images(family, Boxes(lower, upper))
    for i in range(4):
        alone = images(family, Boxes(lower[i : i + 1], upper[i : i + 1]))
        assert torch.allclose(alone.terms[0], together.terms[i], atol=1e-15)
        assert torch.allclose(alone.remainder[0], together.remainder[i], atol=1e-15)
    monkeypatch.setattr(module, "_CELLS", 2)
    few = images(family, Boxes(lower, upper))
    unknown = few.remainder[3] >= 0.5
    assert bool(unknown.any())
    assert bool((few.terms[3, 0][unknown] == 0.5).all())
    assert torch.equal(few.remainder[0], together.remainder[0])
    far = images(
        Shift().family(family.image),
        Boxes(*(torch.tensor([[t, 0.0]], dtype=DTYPE) for t in (1e15, 1e15 + 1))),
    )
    assert bool((far.terms[:, 0] == 0.5).all())
    assert bool((far.remainder >= 0.5).all())


@pytest.mark.parametrize(("change", "limit"), [(Rotation(), 90.0), (Scale(), 1.0), (Gamma(), 1.0)])
def test_boxes_beyond_the_limit_of_a_family_are_refused(change: Change, limit: float) -> None:
    """The sine falls again beyond 90 degrees; a size of 1 is a power, or a scale, of 0."""
    family = change.family(large(3, 1, 4, 4))
    for lower, upper in ((-limit, 0.0), (0.0, limit), (0.0, 2 * limit), (-math.inf, 0.0)):
        ends = (torch.tensor([[end]], dtype=DTYPE) for end in (lower, upper))
        with pytest.raises(EngineError, match=f"reaches {limit:g}"):
            images(family, Boxes(*ends))


@pytest.mark.parametrize("change", [Rotation(), Scale(), Shift(), Gamma()])
def test_parameters_that_are_no_numbers_say_nothing(change: Change) -> None:
    family = change.family(large(4, 1, 4, 4))
    ends = torch.full((1, family.dimensions), 0.5, dtype=DTYPE)
    for boxes in (Boxes(ends * math.nan, ends), Boxes(ends, ends * math.nan)):
        found = images(family, boxes)
        assert bool((~(found.remainder < 0.5) | found.terms[:, 0].isnan()).all())


class Unknown(Family):
    formula = "x"

    def at(self, points: Tensor) -> Tensor:
        return self.image.expand(len(points), -1, -1, -1)


def test_a_family_of_another_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="no rule for Unknown"):
        images(Unknown(torch.zeros(1, 1, 1), ("t",), (True,)), Boxes(torch.zeros(1, 1), torch.zeros(1, 1)))
