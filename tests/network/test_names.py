"""Names of classes from a file or the metadata, and the order of colours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from corgi.errors import ModelError, UsageError
from corgi.network.network import load
from corgi.network.wrap import Normalisation
from corgi.terms import ColourOrder
from tests.onnx_models import IMAGE, OnnxModel, float32, run_onnxruntime

NAMES = ("cat", "dog", "wolf, grey")


def saved(
    folder: Path, metadata: dict[str, str] | None = None, *, channels: int = 3, last: bool = False
) -> Path:
    rng = np.random.default_rng(0)
    shape = (6, 6, channels) if last else (channels, 6, 6)
    model = OnnxModel(shape, metadata=metadata or {})
    value = model.node("Transpose", IMAGE, perm=[0, 3, 1, 2]) if last else IMAGE
    value = model.node("Relu", model.node("Conv", value, float32(rng, 4, channels, 3, 3), float32(rng, 4)))
    return model.save(folder, model.head(value, float32(rng, 3, 4), float32(rng, 3)))


@pytest.mark.parametrize(
    "content",
    [
        "cat\ndog\nwolf, grey\n",
        "\ufeffcat\r\ndog\r\nwolf, grey\r\n",
        json.dumps(NAMES),
        json.dumps({2: NAMES[2], 0: NAMES[0], 1: NAMES[1]}),
        json.dumps({number: [f"n{number}", name] for number, name in enumerate(NAMES)}),
        json.dumps({"id2label": dict(enumerate(NAMES)), "architectures": ["ResNet"]}),
    ],
)
def test_a_file_of_names(content: str, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    file.write_text(content, newline="")
    path = saved(tmp_path, {"names": json.dumps(["a", "b", "c"])})
    assert load(path, class_names=file).class_names == NAMES


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("cat\ndog\n", "2 names, the network has 3 classes"),
        ('["cat", 2, "dog"]', "expected a list of names"),
        ('{"1": "cat", "2": "dog", "3": "wolf"}', "from 0 on"),
        (b"\xff\xfe", "UTF-8"),
        (None, "no such file"),
    ],
)
def test_files_that_name_no_classes(content: str | bytes | None, part: str, tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError, match=r"--class-names .*names.txt") as caught:
        load(saved(tmp_path), class_names=file)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "names"),
    [
        ("corgi.class_names", json.dumps(NAMES), NAMES),
        ("names", "{0: 'cat', 1: 'dog', 2: 'wolf, grey'}", NAMES),
        ("id2label", json.dumps(dict(enumerate(NAMES))), NAMES),
        ("classes", "cat,dog,wolf", ("cat", "dog", "wolf")),
        ("labels", "cat\ndog\nwolf, grey", NAMES),
        ("classes", "3", None),
        ("names", "{0: 'cat'", None),
        ("labels", '["cat", "dog"]', None),
    ],
)
def test_names_in_the_metadata(key: str, text: str, names: tuple[str, ...] | None, tmp_path: Path) -> None:
    assert load(saved(tmp_path, {key: text})).class_names == names


@pytest.mark.parametrize("last", [False, True])
def test_a_network_that_takes_blue_first(last: bool, tmp_path: Path) -> None:
    path = saved(tmp_path, last=last)
    mean, std = (1.0, 2.0, 3.0), (0.5, 0.25, 2.0)
    network = load(path, normalisation=Normalisation(mean, std, 255.0, ColourOrder.BGR))
    images = np.random.default_rng(1).random((2, 3, 6, 6), dtype=np.float32)
    turned = images[:, ::-1]
    given = (255 * turned - np.float32(mean)[:, None, None]) / np.float32(std)[:, None, None]
    given = np.ascontiguousarray(given.transpose(0, 2, 3, 1) if last else given)
    assert_allclose(network.oracle.run(images)[0], run_onnxruntime(path, given)[0], rtol=1e-4, atol=1e-4)
    assert any("blue, green, red" in note for note in network.graph.notes)


def test_two_channels_have_no_order_of_colours(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--colour-order bgr: the input 'image' has 2 channels"):
        load(saved(tmp_path, channels=2), normalisation=Normalisation(colour_order=ColourOrder.BGR))
