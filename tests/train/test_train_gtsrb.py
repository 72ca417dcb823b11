import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

from corgi.data.gtsrb import CLASS_NAMES
from corgi.data.image import load_input
from corgi.data.preprocess import Recipe
from corgi.errors import DataError, UsageError
from corgi.train import gtsrb, run
from corgi.train.gtsrb import train_gtsrb
from corgi.train.options import GtsrbOptions

OPTIONS = GtsrbOptions(epochs=2, validation=0.34, batch_size=4, threads=1, workers=1)
CLASSES = {14: (200, 30, 30), 33: (30, 60, 200), 40: (230, 200, 60)}


def draw(path, colour, generator):
    """A bright disc of the class's colour on noise, not square and of varying size."""
    height, width = generator.integers(20, 31, 2)
    row, column = np.mgrid[:height, :width]
    disc = (row - height / 2) ** 2 + (column - width / 2) ** 2 < (min(height, width) / 3) ** 2
    pixels = generator.integers(0, 120, (height, width, 3))
    pixels[disc] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("gtsrb")
    generator = np.random.default_rng(0)
    rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
    for class_id, colour in CLASSES.items():
        for track in range(3):
            for frame in range(2):
                name = f"{track:05}_{frame:05}.ppm"
                draw(root / "Training" / f"{class_id:05}" / name, colour, generator)
        draw(root / "Final_Test" / "Images" / f"{class_id:05}.ppm", colour, generator)
        rows.append(f"{class_id:05}.ppm;30;30;5;5;25;25;{class_id}")
    (root / "Final_Test" / "GT-final_test.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    events = []
    report = train_gtsrb(folder, tmp_path_factory.mktemp("out") / "new" / "net.onnx", OPTIONS, events.append)
    return report, events


def test_the_export_computes_what_was_trained(trained):
    assert 0 <= trained[0].export_difference < 1e-4


def test_the_graph_is_the_papers(trained):
    model = onnx.load(trained[0].model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == [
        *("Conv", "Relu", "Conv", "Relu", "MaxPool", "Conv", "Relu", "Conv", "Relu"),
        *("GlobalAveragePool", "Flatten", "Gemm"),
    ]
    (image,) = model.graph.input
    assert image.name == "image"
    assert image.type.tensor_type.shape.dim[0].dim_param == "N"
    shapes = {tuple(i.dims) for i in model.graph.initializer if len(i.dims) > 1}
    assert shapes == {(8, 3, 3, 3), (8, 8, 3, 3), (16, 8, 3, 3), (16, 16, 3, 3), (43, 16)}
    assert model.opset_import[0].version == 17
    assert all(not i.external_data for i in model.graph.initializer)


def test_metadata(trained):
    report, _ = trained
    metadata = {p.key: p.value for p in onnx.load(report.model).metadata_props}
    assert Recipe.parse(metadata["corgi.preprocess"]) == Recipe.parse("gtsrb")
    assert json.loads(metadata["corgi.class_names"]) == list(CLASS_NAMES)
    training = json.loads(metadata["corgi.training"])
    assert training["seed"] == OPTIONS.seed
    assert training["command"] == report.command
    assert training["test_accuracy"] == report.test_accuracy
    assert training["data"]["test_images"] == 3


def test_the_reported_accuracy_is_the_files(trained, folder):
    report, _ = trained
    session = onnxruntime.InferenceSession(report.model)
    correct = 0
    for class_id in CLASSES:
        path = folder / "Final_Test" / "Images" / f"{class_id:05}.ppm"
        image = load_input(path, (3, 48, 48), None, Recipe.parse("gtsrb"))
        correct += session.run(None, {"image": image[None]})[0].argmax() == class_id
    assert report.test_accuracy == correct / 3
    assert report.test_images == 3


def test_the_split_is_by_track(trained):
    report, _ = trained
    assert (report.training_tracks, report.validation_tracks) == (6, 3)
    assert (report.training_images, report.validation_images) == (12, 6)


def test_progress_ends_complete(trained):
    for stage, total in (("read", 21), ("train", OPTIONS.epochs)):
        events = [event for event in trained[1] if event.stage == stage]
        assert (events[-1].done, events[-1].total) == (total, total)


def test_the_card_states_the_report(trained):
    report, _ = trained
    text = report.card.read_text()
    assert report.card == report.model.with_suffix(".md")
    assert report.command in text
    assert f"**{report.test_accuracy:.2%}**" in text
    assert "1 each of classes 14, 33, 40" in text


def test_the_seed_decides_the_weights(folder, tmp_path):
    files = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        report = train_gtsrb(folder, tmp_path / name / "net.onnx", replace(OPTIONS, seed=seed, epochs=1))
        weights = [onnx.numpy_helper.to_array(i) for i in onnx.load(report.model).graph.initializer]
        files.append(np.concatenate([w.ravel() for w in weights]))
    assert np.array_equal(files[0], files[1])
    assert not np.array_equal(files[0], files[2])


def test_a_last_batch_of_one_image_is_left_out(folder, tmp_path):
    report = train_gtsrb(folder, tmp_path / "net.onnx", replace(OPTIONS, batch_size=11, epochs=1))
    assert report.training_images % 11 == 1
    assert report.epoch == 1


def test_a_process_pool_reads_the_same(folder):
    task = gtsrb._task(OPTIONS)
    paths = sorted((folder / "Training" / "00014").glob("*.ppm"))
    assert np.array_equal(list(run._inputs(task, paths, 2)), list(run._inputs(task, paths, 1)))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("batch_size", 1),
        ("seed", -1),
        ("validation", 1.0),
        ("learning_rate", float("nan")),
        ("dropout", 1.0),
        ("workers", 0),
        ("warp", float("nan")),
    ],
)
def test_options_are_checked(option, value):
    with pytest.raises(UsageError, match=option):
        GtsrbOptions(**{option: value})


def test_the_output_is_an_onnx_file(folder, tmp_path):
    with pytest.raises(UsageError, match=r"net\.md"):
        train_gtsrb(folder, tmp_path / "net.md", OPTIONS)


def test_a_folder_that_is_not_gtsrb(tmp_path):
    with pytest.raises(DataError, match="missing"):
        train_gtsrb(tmp_path, tmp_path / "net.onnx", OPTIONS)


def test_a_folder_too_small_to_split(folder, tmp_path):
    sign = tmp_path / "Training" / "00014" / "00000_00000.ppm"
    sign.parent.mkdir(parents=True)
    sign.write_bytes((folder / "Training" / "00014" / "00000_00000.ppm").read_bytes())
    (tmp_path / "Final_Test").symlink_to(folder / "Final_Test")
    with pytest.raises(DataError, match="no class has tracks enough"):
        train_gtsrb(tmp_path, tmp_path / "net.onnx", OPTIONS)
