"""Draw the demo image: a photograph-like no-entry sign beside a road, cut out as GTSRB cuts its signs.

    python models/demo/draw_sign.py            writes no_entry.png beside this script

Everything is drawn here from geometry and a seeded generator, so the picture is free of rights. The
scene is painted at `SCALE` times the final size, then blurred, scaled down and given the noise of a
small sensor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter
from skimage.transform import downscale_local_mean

Scene = NDArray[np.float64]
Field = NDArray[np.float64]

HEIGHT, WIDTH = 66, 64
SCALE = 8
SEED = 17

CENTER = (31.0, 33.2)
"""Column and row of the sign's centre, in final pixels: a little off the middle."""
RADIUS = 24.5
TILT = np.deg2rad(-4.0)
SQUEEZE = 0.96
"""Width over height: the sign is seen slightly from the side."""

RED = (0.66, 0.075, 0.085)
WHITE = (0.86, 0.85, 0.82)


def draw(seed: int = SEED) -> NDArray[np.uint8]:
    """The picture, [HEIGHT, WIDTH, 3]."""
    generator = np.random.default_rng(seed)
    row, column = (np.mgrid[: HEIGHT * SCALE, : WIDTH * SCALE] + 0.5) / SCALE
    scene = _background(row, column, generator)
    scene = _pole(scene, row, column)
    scene = _sign(scene, row, column, generator)
    scene = gaussian_filter(scene, (0.62 * SCALE, 0.72 * SCALE, 0))  # lens, and a little motion
    return _sensor(downscale_local_mean(scene, (SCALE, SCALE, 1)), generator)


def _noise(generator: np.random.Generator, size: float) -> Field:
    """Smooth noise in about [-1, 1] whose grains are `size` final pixels wide."""
    grains = gaussian_filter(
        generator.standard_normal((HEIGHT * SCALE, WIDTH * SCALE)), size * SCALE, mode="reflect"
    )
    return np.asarray(grains / np.abs(grains).max())


def _over(scene: Scene, color: Scene | tuple[float, float, float], alpha: Field) -> Scene:
    """`color` painted over the scene where `alpha` is 1."""
    return scene + alpha[:, :, np.newaxis] * (np.asarray(color) - scene)


def _edge(distance: Field) -> Field:
    """1 inside (negative distance, in final pixels), 0 outside, soft over half a pixel."""
    return np.clip(0.5 - distance / 0.5, 0, 1)


def _background(row: Field, column: Field, generator: np.random.Generator) -> Scene:
    """Overcast sky, trees with a ragged outline, a verge and the road."""
    haze = np.clip(row / HEIGHT, 0, 1)[:, :, np.newaxis]
    scene = np.asarray((0.66, 0.71, 0.78)) + haze * np.asarray((0.10, 0.08, 0.04))
    scene = scene + 0.03 * _noise(generator, 9.0)[:, :, np.newaxis]
    outline = 17 + 0.13 * (column - 20) + 7 * _noise(generator, 3.5) + 4 * _noise(generator, 1.0)
    leaves = 0.55 * _noise(generator, 0.9) + 0.6 * _noise(generator, 2.6) + 0.35 * _noise(generator, 0.4)
    light = np.clip(0.24 + 0.22 * leaves, 0.03, 0.6)[:, :, np.newaxis]
    scene = _over(scene, light * np.asarray((0.86, 1.0, 0.62)), _edge(outline - row))
    verge = 51.5 + 0.05 * column + 0.9 * _noise(generator, 2.0)
    grass = np.clip(0.36 + 0.14 * _noise(generator, 0.5) + 0.1 * _noise(generator, 3.0), 0.1, 0.7)
    scene = _over(scene, grass[:, :, np.newaxis] * np.asarray((0.84, 0.95, 0.55)), _edge(verge - row))
    kerb = 58.0 - 0.11 * column
    asphalt = np.clip(0.42 + 0.06 * _noise(generator, 0.35) + 0.04 * _noise(generator, 4.0), 0, 1)
    scene = _over(scene, (0.62, 0.61, 0.58), _edge(kerb - 1.4 - row))
    return _over(scene, asphalt[:, :, np.newaxis] * np.asarray((1.0, 0.99, 1.0)), _edge(kerb - row))


def _pole(scene: Scene, row: Field, column: Field) -> Scene:
    """A galvanised tube behind the sign, lit from the left."""
    across = (column - CENTER[0] - 0.6 - np.tan(-TILT) * (row - CENTER[1]) * 0.5) / 2.1
    shade = np.clip(0.62 - 0.28 * across - 0.25 * np.abs(across) ** 3, 0.1, 1)[:, :, np.newaxis]
    alpha = _edge((np.abs(across) - 1) * 2.1) * (row > CENTER[1])
    return _over(scene, shade * np.asarray((0.96, 0.98, 1.0)), alpha)


def _sign(scene: Scene, row: Field, column: Field, generator: np.random.Generator) -> Scene:
    """A red disc with a pale rim and a white bar, weathered, darker towards the lower right."""
    x, y = (column - CENTER[0]) / SQUEEZE, row - CENTER[1]
    across = np.cos(TILT) * x + np.sin(TILT) * y
    along = -np.sin(TILT) * x + np.cos(TILT) * y
    distance = np.hypot(across, along) - RADIUS
    dirt = 0.035 * _noise(generator, 2.2) + 0.03 * _noise(generator, 0.6)
    dirt = dirt - 0.05 * np.clip(along / RADIUS, 0, 1) * np.clip(_noise(generator, 1.3) + 0.4, 0, 1)
    light = (1.0 - 0.16 * across / RADIUS - 0.20 * along / RADIUS + dirt)[:, :, np.newaxis]
    # A matt surface also mirrors some sky, more at the top: red is never as pure as its paint.
    sky = 0.05 * np.clip(1 - along / RADIUS, 0, 2)[:, :, np.newaxis] * np.asarray((0.8, 0.9, 1.0))
    scene = _over(scene, 0.35 * scene, 0.6 * _edge(np.hypot(across - 1.2, along - 1.4) - RADIUS - 0.2))
    scene = _over(scene, np.asarray(WHITE) * light * 0.92 + sky * 0.5, _edge(distance))
    scene = _over(scene, np.asarray(RED) * light + sky, _edge(distance + 1.3))
    half_width, half_height, corner = 0.78 * RADIUS, 0.185 * RADIUS, 0.7
    outside = np.hypot(
        np.maximum(np.abs(across) - half_width + corner, 0),
        np.maximum(np.abs(along) - half_height + corner, 0),
    )
    return _over(scene, np.asarray(WHITE) * light + sky * 0.4, _edge(outside - corner))


def _sensor(scene: Scene, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Vignetting, shot and read noise with some of it shared by neighbours, as after demosaicing; 8 bits."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    fall = 1 - 0.10 * (((row / HEIGHT) - 0.5) ** 2 + ((column / WIDTH) - 0.5) ** 2) / 0.5
    scene = np.clip(scene * fall[:, :, np.newaxis], 0, 1)
    grain = gaussian_filter(generator.standard_normal(scene.shape), (0.5, 0.5, 0)) * 1.6
    noisy = scene + (0.007 + 0.016 * np.sqrt(scene)) * grain
    return np.round(255 * np.clip(noisy, 0, 1)).astype(np.uint8)


if __name__ == "__main__":
    Image.fromarray(draw()).save(Path(__file__).with_name("no_entry.png"))
