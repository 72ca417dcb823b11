"""One training run: read and split a data set, fit, export, measure, and write the model card.

The test images are looked at once, through onnxruntime, for the accuracy that the card states; epochs are
chosen on training pictures that were held out.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import starmap
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from corgi.data.image import load_input
from corgi.data.preprocess import METADATA_KEY
from corgi.data.samples import Sample, split_by_track
from corgi.errors import DataError, UsageError
from corgi.network.names import CLASS_NAMES_KEY
from corgi.train.card import model_card
from corgi.train.export import check_export, run_onnx, write_onnx
from corgi.train.fit import Epoch, Fitted, LabelledImages, Schedule, fit
from corgi.train.options import TrainOptions
from corgi.train.task import ClassAccuracy, Task, TrainingReport

TRAINING_KEY = "corgi.training"
"""ONNX `metadata_props` key: a JSON object of how the network came to be."""


@dataclass(frozen=True)
class Progress:
    """One sign of life: the stage (`read` or `train`), how much of it is done, and a note for people."""

    stage: str
    done: int
    total: int
    note: str


@dataclass(frozen=True)
class _Prepared:
    """The data of one run: samples for the counts, images for the work."""

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    training_data: LabelledImages
    validation_data: LabelledImages
    test_data: LabelledImages


def train(
    task: Task,
    data_dir: Path,
    out_path: Path,
    options: TrainOptions,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingReport:
    """Train on a folder of pictures; write `out_path` (ONNX) and the model card beside it (`.md`).

    The same task, options, data, machine and torch give the same file.

    Args:
        task: what is learned.
        data_dir: folder of the data set.
        out_path: the ONNX file to write.
        options: how.
        progress: called for every part of the pictures read and for every epoch.

    Raises:
        DataError: the folder is not laid out as the data set is, or too small to split.
        ImageError: a picture cannot be read, or has another size than the network takes.
        UsageError: `out_path` does not end in `.onnx`.
        ModelError: the exported file does not compute what the trained network does.
    """
    report_progress = progress or (lambda event: None)
    if out_path.suffix != ".onnx":
        raise UsageError(f"{out_path}: expected a file name that ends in .onnx")
    start = time.perf_counter()
    data = _prepare(task, data_dir, options, report_progress)
    fitted = _fit(task, data, options, report_progress)
    report = _export(task, data, fitted, out_path, options, start)
    report.card.write_text(model_card(report), encoding="utf-8")
    return report


def _prepare(
    task: Task, data_dir: Path, options: TrainOptions, progress: Callable[[Progress], None]
) -> _Prepared:
    test = task.read_test(data_dir)
    training, validation = split_by_track(task.read_training(data_dir), options.validation, options.seed)
    if not validation:
        raise DataError(
            f"{data_dir}: no class has tracks enough to hold out {options.validation:.0%} for validation",
            hint="Use the whole data set, or hold out a larger part.",
        )
    samples = (*training, *validation, *test)
    images = np.empty((len(samples), *task.input_shape), np.float32)
    for index, image in enumerate(_inputs(task, [sample.path for sample in samples], options.workers)):
        images[index] = image
        if index % 100 == 99 or index + 1 == len(samples):
            progress(Progress("read", index + 1, len(samples), f"{index + 1} of {len(samples)} pictures"))
    labels = torch.tensor([sample.class_id for sample in samples])
    sizes = [len(training), len(validation), len(test)]
    parts = zip(torch.split(torch.from_numpy(images), sizes), torch.split(labels, sizes), strict=True)
    return _Prepared(training, validation, *starmap(LabelledImages, parts))


def _inputs(task: Task, paths: Sequence[Path], workers: int) -> Iterator[NDArray[np.float32]]:
    read = partial(load_input, input_shape=task.input_shape, recipe=task.recipe, model_recipe=None)
    if workers == 1:
        yield from map(read, paths)
        return
    # Spawned, not forked: a fork copies the locks of torch's threads in whatever state they are.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(read, paths, chunksize=32)


def _fit(task: Task, data: _Prepared, options: TrainOptions, progress: Callable[[Progress], None]) -> Fitted:
    def show(epoch: Epoch) -> None:
        note = f"loss {epoch.loss:.4f}, validation accuracy {epoch.accuracy:.2%}"
        progress(Progress("train", epoch.number, options.epochs, note))

    schedule = Schedule(
        options.epochs,
        options.batch_size,
        options.learning_rate,
        options.weight_decay,
        options.label_smoothing,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            generator = torch.Generator().manual_seed(options.seed)
            return fit(
                task.network(),
                data.training_data,
                data.validation_data,
                schedule,
                task.augmentation,
                generator,
                show,
            )
    finally:
        torch.set_num_threads(threads)


def _export(
    task: Task, data: _Prepared, fitted: Fitted, path: Path, options: TrainOptions, start: float
) -> TrainingReport:
    write_onnx(fitted.network, task.input_shape, path, {})
    images = data.test_data.images.numpy()
    difference = check_export(fitted.network, path, images)
    guesses = run_onnx(path, images).argmax(1)
    classes = _by_class(guesses, data.test_data.labels.numpy())
    report = TrainingReport(
        task=task,
        model=path,
        card=path.with_suffix(".md"),
        command=f"corgi train {task.command} --data DIR --out {path}"
        f" --seed {options.seed} --epochs {options.epochs}",
        options=options,
        training_images=len(data.training),
        training_tracks=_tracks(data.training),
        validation_images=len(data.validation),
        validation_tracks=_tracks(data.validation),
        epoch=fitted.epoch.number,
        validation_accuracy=fitted.epoch.accuracy,
        test_accuracy=sum(entry.correct for entry in classes) / len(guesses),
        test_classes=classes,
        export_difference=difference,
        torch_version=torch.__version__,
        seconds=time.perf_counter() - start,
    )
    # The accuracy is the file's own, so the file is written again once it is known: only metadata differ.
    write_onnx(fitted.network, task.input_shape, path, _metadata(report))
    return report


def _by_class(guesses: NDArray[np.int64], labels: NDArray[np.int64]) -> tuple[ClassAccuracy, ...]:
    return tuple(
        ClassAccuracy(int(c), int((labels == c).sum()), int(((labels == c) & (guesses == c)).sum()))
        for c in np.unique(labels)
    )


def _tracks(samples: Sequence[Sample]) -> int:
    return len({(sample.class_id, sample.track) for sample in samples})


def _metadata(report: TrainingReport) -> dict[str, str]:
    """The file's `metadata_props`. Nothing in it depends on time, so equal runs give equal files."""
    training = {
        "command": report.command,
        "seed": report.options.seed,
        "options": asdict(report.options),
        "torch": report.torch_version,
        "data": {
            "training_images": report.training_images,
            "training_tracks": report.training_tracks,
            "validation_images": report.validation_images,
            "validation_tracks": report.validation_tracks,
            "test_images": report.test_images,
        },
        "epoch": report.epoch,
        "validation_accuracy": report.validation_accuracy,
        "test_accuracy": report.test_accuracy,
    }
    return {
        METADATA_KEY: str(report.task.recipe),
        CLASS_NAMES_KEY: json.dumps(report.task.class_names),
        TRAINING_KEY: json.dumps(training),
    }
