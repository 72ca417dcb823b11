import pytest

from corgi.data.cifar10 import CLASS_NAMES, read_test, read_training
from corgi.data.samples import split_by_track
from corgi.errors import DataError


@pytest.fixture
def folder(tmp_path):
    """Ten training pictures of cats and of trucks, one of a frog to test. The reader never opens them."""
    names = [f"train/{name}/{i:04}.jpg" for name in ("truck", "cat") for i in range(10)]
    for name in [*names, "test/frog/0000.jpg"]:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_training(folder):
    samples = read_training(folder)
    assert [s.class_id for s in samples] == [3] * 10 + [9] * 10
    assert [s.track for s in samples[:10]] == list(range(10))
    assert samples[0].path == folder / "train" / "cat" / "0000.jpg"


def test_test_part(folder):
    (sample,) = read_test(folder)
    assert CLASS_NAMES[sample.class_id] == "frog"


def test_every_class_is_split_alike(folder):
    kept, held = split_by_track(read_training(folder), 0.2, 0)
    assert [s.class_id for s in held] == [3, 3, 9, 9]
    assert not {s.path for s in kept} & {s.path for s in held}


@pytest.mark.parametrize(("missing", "read"), [("train", read_training), ("test", read_test)])
def test_what_is_missing_is_named(folder, missing, read):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=rf"{missing}: missing(.|\n)*DIR must hold"):
        read(folder)


def test_a_folder_that_is_no_class_is_refused(folder):
    (folder / "train" / "lynx").mkdir()
    with pytest.raises(DataError, match=r"lynx: not a class folder(.|\n)*airplane"):
        read_training(folder)


def test_folders_without_pictures_are_refused(tmp_path):
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "0000.png").touch()
    with pytest.raises(DataError, match=r"no picture(.|\n)*NAME\.jpg"):
        read_training(tmp_path)


def test_the_real_folder(data_dir):
    training, test = read_training(data_dir / "CIFAR10"), read_test(data_dir / "CIFAR10")
    assert {s.class_id for s in training} == {s.class_id for s in test} == set(range(10))
