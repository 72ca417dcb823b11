import pytest

from corgi.data.gtsrb import CLASS_NAMES, MIRRORED, read_test, read_training
from corgi.data.samples import split_by_track
from corgi.data.window import Box
from corgi.errors import DataError, UsageError

HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"


@pytest.fixture
def folder(tmp_path):
    """Class 2 with 10 tracks, class 17 with one; 3 frames a track. The reader never opens the files."""
    for class_id, tracks in ((2, 10), (17, 1)):
        directory = tmp_path / "Training" / f"{class_id:05}"
        directory.mkdir(parents=True)
        for track in range(tracks):
            for frame in range(3):
                (directory / f"{track:05}_{frame:05}.ppm").touch()
    images = tmp_path / "Final_Test" / "Images"
    images.mkdir(parents=True)
    (images / "00007.ppm").touch()
    (images.parent / "GT-final_test.csv").write_text(HEADER + "00007.ppm;32;33;5;6;26;28;12\n")
    return tmp_path


def test_training(folder):
    samples = read_training(folder)
    assert len(samples) == 33
    assert (samples[0].class_id, samples[0].track, samples[0].box) == (2, 0, None)
    assert samples[-1].path.name == "00000_00002.ppm"
    assert samples[-1].class_id == 17


def test_training_boxes_are_read_where_they_exist(folder):
    table = folder / "Training" / "00017" / "GT-00017.csv"
    table.write_text(HEADER + "00000_00001.ppm;32;33;5;6;26;28;17\n")
    assert [s.box for s in read_training(folder)[-3:]] == [None, Box.of_pixels(5, 6, 26, 28), None]


def test_test_part(folder):
    (sample,) = read_test(folder)
    assert (sample.class_id, sample.track, sample.box) == (12, None, Box.of_pixels(5, 6, 26, 28))
    assert sample.path.is_file()


@pytest.mark.parametrize(
    ("missing", "read"),
    [
        ("Training", read_training),
        ("Final_Test/Images", read_test),
        ("Final_Test/GT-final_test.csv", read_test),
    ],
)
def test_what_is_missing_is_named(folder, missing, read):
    (folder / missing).rename(folder / "elsewhere")
    with pytest.raises(DataError, match=f"{missing}: missing"):
        read(folder)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("Training/stop/00000_00000.ppm", "stop: not a class folder"),
        ("Training/00043/00000_00000.ppm", "class '00043'; expected 0..42"),
        ("Training/00002/photo.ppm", "photo.ppm: not a training image"),
    ],
)
def test_names_outside_the_layout_are_refused(folder, path, message):
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).touch()
    with pytest.raises(DataError, match=message):
        read_training(folder)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("File,ClassId\n", "no column Filename"),
        (HEADER, "no row"),
        (HEADER + "00008.ppm;32;33;5;6;26;28;12\n", "names 00008.ppm"),
        (HEADER + "00007.ppm;32;33;5;6;26;28;99\n", "class '99'"),
        (HEADER + "00007.ppm;32;33;5;6;26;28\n", "class ''"),
        (HEADER + "00007.ppm;32;33;5;six;26;28;1\n", "not four integers"),
        (HEADER + "00007.ppm;32;33;5;6;4;28;1\n", "00007.ppm, 5, 6, 4, 28, is not"),
    ],
)
def test_broken_tables_are_refused(folder, table, message):
    (folder / "Final_Test" / "GT-final_test.csv").write_text(table)
    with pytest.raises(DataError, match=message):
        read_test(folder)


def test_an_empty_training_folder_is_refused(tmp_path):
    (tmp_path / "Training" / "00000").mkdir(parents=True)
    with pytest.raises(DataError, match="no training image"):
        read_training(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_no_track_is_split(folder, seed):
    samples = read_training(folder)
    kept, held = split_by_track(samples, 0.2, seed)
    assert sorted(map(str, (s.path for s in kept + held))) == sorted(str(s.path) for s in samples)
    assert not {(s.class_id, s.track) for s in kept} & {(s.class_id, s.track) for s in held}
    assert len({s.track for s in held if s.class_id == 2}) == 2
    assert {s.class_id for s in kept} == {2, 17}


def test_the_split_depends_on_seed_and_not_on_order(folder):
    samples = read_training(folder)
    splits = {frozenset(split_by_track(samples, 0.2, seed)[1]) for seed in range(8)}
    assert len(splits) > 1
    assert set(split_by_track(samples[::-1], 0.2, 3)[1]) == set(split_by_track(samples, 0.2, 3)[1])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_the_fraction_is_checked(folder, fraction):
    with pytest.raises(UsageError, match="fraction"):
        split_by_track(read_training(folder), fraction, 0)


def test_test_images_cannot_be_split_by_track(folder):
    with pytest.raises(UsageError, match="no track"):
        split_by_track(read_test(folder), 0.1, 0)


def test_names_and_mirrors():
    assert len(set(CLASS_NAMES)) == 43
    assert CLASS_NAMES[17] == "no entry"
    assert all(MIRRORED[MIRRORED[c]] == c for c in MIRRORED)
    assert all("left" in CLASS_NAMES[b] for a, b in MIRRORED.items() if "right" in CLASS_NAMES[a] and a != 11)


def test_the_real_folder(data_dir):
    training, test = read_training(data_dir / "GTSRB"), read_test(data_dir / "GTSRB")
    assert {s.class_id for s in training} == {s.class_id for s in test} == set(range(43))
    assert all(s.box for s in test)
    kept, held = split_by_track(training, 0.1, 0)
    assert 0.08 < len(held) / len(training) < 0.12
    assert {s.class_id for s in kept} == set(range(43))
