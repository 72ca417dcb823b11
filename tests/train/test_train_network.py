import numpy as np
import onnx
import pytest
import torch

from corgi.errors import ModelError
from corgi.train.augment import Augmentation
from corgi.train.export import check_export, run_onnx, write_onnx
from corgi.train.network import INPUT_SHAPE, gu2020_network
from tests.train.networks import lively


@pytest.fixture
def network():
    torch.manual_seed(0)
    return lively(gu2020_network(5, 0.5))


def test_export_equals_torch(network, tmp_path):
    images = np.random.default_rng(0).random((7, *INPUT_SHAPE), np.float32)
    write_onnx(network, INPUT_SHAPE, tmp_path / "net.onnx", {"key": "value"})
    assert check_export(network, tmp_path / "net.onnx", images) < 1e-5
    assert run_onnx(tmp_path / "net.onnx", images, batch=3).shape == (7, 5)
    model = onnx.load(tmp_path / "net.onnx")
    assert [prop.value for prop in model.metadata_props] == ["value"]
    assert [node.op_type for node in model.graph.node].count("BatchNormalization") == 0


def test_another_file_does_not_pass_the_check(network, tmp_path):
    images = np.random.default_rng(0).random((2, *INPUT_SHAPE), np.float32)
    write_onnx(network, INPUT_SHAPE, tmp_path / "net.onnx", {})
    with torch.no_grad():
        network[-1].bias += 1
    with pytest.raises(ModelError, match="differs"):
        check_export(network, tmp_path / "net.onnx", images)


def test_augmentation_keeps_shape_and_box():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(32, *INPUT_SHAPE), torch.randint(43, (32,))
    changed, same = Augmentation(0.2, 0.6, 0.5, 0.5, 0.1, 4).apply(images, labels, generator)
    assert changed.shape == images.shape
    assert changed.min() >= 0
    assert changed.max() <= 1
    assert torch.equal(same, labels)


def test_augmentation_of_nothing_is_nothing():
    images, labels = torch.rand(4, *INPUT_SHAPE), torch.arange(4)
    changed, _ = Augmentation().apply(images, labels, torch.Generator())
    assert torch.equal(changed, images)


def test_a_crop_is_a_shift_by_whole_pixels():
    images = torch.rand(64, 1, 6, 7) + 1
    changed, _ = Augmentation(crop=2).apply(images, torch.zeros(64, dtype=torch.int64), torch.Generator())
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    seen = set()
    for image, canvas in zip(changed, padded, strict=True):
        windows = {(d, r): canvas[:, d : d + 6, r : r + 7] for d in range(5) for r in range(5)}
        (place,) = [place for place, window in windows.items() if torch.equal(window, image)]
        seen.add(place)
    assert len(seen) > 15


def test_mirrored_images_change_their_label_exactly_then():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(64, *INPUT_SHAPE), torch.tensor([0, 1, 2, 9] * 16)
    augmentation = Augmentation(mirrored={0: 3, 1: 1})
    changed, new = augmentation.apply(images, labels, generator)
    mirrored = torch.tensor(
        [torch.allclose(c, i.flip(2), atol=1e-4) for c, i in zip(changed, images, strict=True)]
    )
    kept = torch.tensor([torch.allclose(c, i, atol=1e-4) for c, i in zip(changed, images, strict=True)])
    assert torch.equal(mirrored, ~kept)
    assert torch.equal(new, torch.where(mirrored & (labels == 0), 3, labels))
    assert not mirrored[labels == 2].any()
    assert mirrored[labels == 1].any()
    assert kept[labels == 0].any()
