"""`corgi export` of every question, and `corgi vnn` of what it wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from corgi.cli.exits import Exit
from tests.cli.test_cli import corgi
from tests.onnx_models import IMAGE, OnnxModel, float32


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A network with a map of 4 x 4 and a picture of 8 x 8, bright in the middle."""
    folder = tmp_path_factory.mktemp("files")
    net = OnnxModel((3, 8, 8))
    value = net.node("Relu", net.node("Conv", IMAGE, np.full((2, 3, 2, 2), 0.1, np.float32), strides=[2, 2]))
    model = net.save(folder, net.head(value, np.abs(float32(np.random.default_rng(0), 2, 2))))
    picture = np.full((8, 8, 3), 40, np.uint8)
    picture[2:6, 2:6] = np.arange(200, 216, dtype=np.uint8).reshape(4, 4, 1)
    Image.fromarray(picture).save(folder / "picture.png")
    return model, folder / "picture.png"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--property", "pointing", "--region", "2,2,5,5"), "the largest pixel of the map"),
        (("--property", "overlap", "--keep", "2"), "at least 2 of the 3 largest pixels of the map"),
        (("--property", "inside", "--keep", "2", "--region", "2,2,5,5"), "lie inside the region"),
        (("--property", "centre"), "the mass centre of the positive part of the map"),
        (("--property", "order", "--above", "1,1", "--below", "0,0"), "pixel [1, 1] of the map"),
        (("--property", "iou", "--iou", "0.9"), "keeps an intersection over union of at least 0.9"),
        (("--property", "pointing+centre", "--region", "2,2,5,5"), "lies inside the region, and"),
        (("--k2", "5"), "stay among the 5 largest"),
    ],
)
def test_questions_are_written_and_decided(
    options: tuple[str, ...], says: str, files: tuple[Path, Path], tmp_path: Path
) -> None:
    """A change by 1/255 breaks none of them."""
    written = corgi("export", *files, tmp_path, "--k", 3, "--eps", "1/255", *options)
    assert written.exit_code == Exit.OK, written.output
    assert says in " ".join(written.stdout.split())
    (spec,) = (tmp_path / "vnnlib").iterdir()
    assert says in spec.read_text()
    decided = corgi("vnn", "run", tmp_path / "instances.csv")
    assert "1 unsat" in decided.stdout, decided.output


def test_what_cannot_be_written_is_an_error(files: tuple[Path, Path], tmp_path: Path) -> None:
    refused = corgi("export", *files, tmp_path, "--eps", 0.01, "--property", "pointing")
    assert refused.exit_code == Exit.ERROR
    assert "--region" in refused.output
    outside = corgi(
        "export", *files, tmp_path, "--eps", 0.01, "--property", "pointing", "--region", "0,0,1,1"
    )
    assert outside.exit_code == Exit.ERROR
    assert "at the image itself" in " ".join(outside.output.split())
    assert not (tmp_path / "vnnlib").exists()
