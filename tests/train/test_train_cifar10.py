import json

import numpy as np
import onnx
import pytest
from PIL import Image

from corgi.data.cifar10 import CLASS_NAMES
from corgi.data.preprocess import Recipe
from corgi.errors import DataError, ImageError, UsageError
from corgi.train.cifar10 import train_cifar10
from corgi.train.options import Cifar10Options

OPTIONS = Cifar10Options(epochs=1, validation=0.25, batch_size=4, workers=1)
COLOURS = {"cat": (200, 30, 30), "ship": (30, 60, 200)}


def draw(path, colour, generator, size=32):
    """Noise in the class's colour."""
    pixels = np.clip(np.array(colour) + generator.integers(-30, 31, (size, size, 3)), 0, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root, generator = tmp_path_factory.mktemp("cifar10"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for part, count in (("train", 4), ("test", 2)):
            for number in range(count):
                draw(root / part / name / f"{number:04}.jpg", colour, generator)
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    events = []
    report = train_cifar10(folder, tmp_path_factory.mktemp("out") / "net.onnx", OPTIONS, events.append)
    return report, events


def test_the_export_computes_what_was_trained(trained):
    assert 0 <= trained[0].export_difference < 1e-5


def test_counts(trained):
    report, events = trained
    assert (report.training_images, report.validation_images, report.test_images) == (6, 2, 4)
    assert [event.stage for event in events] == ["read", "train"]


def test_metadata(trained):
    report, _ = trained
    metadata = {p.key: p.value for p in onnx.load(report.model).metadata_props}
    assert Recipe.parse(metadata["corgi.preprocess"]) == Recipe()
    assert json.loads(metadata["corgi.class_names"]) == list(CLASS_NAMES)
    assert json.loads(metadata["corgi.training"])["options"]["architecture"] == "resnet18"


def test_the_card_states_the_report(trained):
    report, _ = trained
    text = report.card.read_text()
    command = (
        f"corgi train cifar10 --architecture resnet18 --data DIR --out {report.model} --seed 0 --epochs 1"
    )
    assert report.command == command
    assert command in text
    assert f"**{report.test_accuracy:.2%}**" in text
    assert "a ResNet-18" in text
    assert "| training | 6 | weights |" in text
    assert "4 of 10000" in text


def test_a_picture_of_another_size_is_refused(folder, tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "test").unlink()
    draw(tmp_path / "test" / "cat" / "0000.jpg", COLOURS["cat"], np.random.default_rng(0), size=33)
    with pytest.raises(ImageError, match="33 x 33"):
        train_cifar10(tmp_path, tmp_path / "net.onnx", OPTIONS)


def test_a_folder_that_is_not_cifar10(tmp_path):
    with pytest.raises(DataError, match="missing"):
        train_cifar10(tmp_path, tmp_path / "net.onnx", OPTIONS)


@pytest.mark.parametrize(
    ("option", "value"), [("architecture", "alexnet"), ("crop", 32), ("label_smoothing", 1.0), ("epochs", 0)]
)
def test_options_are_checked(option, value):
    with pytest.raises(UsageError, match=option):
        Cifar10Options(**{option: value})
