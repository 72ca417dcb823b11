"""Pictures in files, with what a data set says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

import corgi


def annotated_picture(folder: Path, model: Path, past_the_middle: int) -> Path:
    """Noise of a network's input size, and its annotation: all rows up to so many past the middle."""
    channels, height, width = corgi.load(model).input_shape
    noise = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = folder / "a.png"
    Image.fromarray(noise if channels == 3 else noise[:, :, 0]).save(path)
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    row = f"a.png;{width};{height};0;0;{width - 1};{height // 2 + past_the_middle};0"
    (folder / "GT-test.csv").write_text(f"{head}\n{row}\n")
    return path
