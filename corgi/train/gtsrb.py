"""Train the network of Gu et al. on GTSRB and write it as ONNX, with its recipe, class names and model card.

The test images are looked at once, through onnxruntime, for the accuracy that the card states; epochs are
chosen on training tracks that were held out.
"""

from __future__ import annotations

import json
import math
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

from corgi.data.gtsrb import CLASS_NAMES, MIRRORED, Sample, read_test, read_training, split_by_track
from corgi.data.image import load_input
from corgi.data.preprocess import GTSRB, METADATA_KEY
from corgi.errors import DataError, UsageError
from corgi.network.network import CLASS_NAMES_KEY
from corgi.train.augment import Augmentation
from corgi.train.card import model_card
from corgi.train.export import check_export, run_onnx, write_onnx
from corgi.train.fit import Epoch, Fitted, LabelledImages, Schedule, fit
from corgi.train.network import INPUT_SHAPE, fold_batch_norms, gu2020_network

TRAINING_KEY = "corgi.training"
"""ONNX `metadata_props` key: a JSON object of how the network came to be."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of `train_gtsrb`; the defaults made `models/gtsrb.onnx`.

    Attributes:
        epochs: passes over the training images.
        seed: of split, initial weights, order, augmentation and dropout.
        validation: part of each class's tracks held out to choose the epoch.
        batch_size, learning_rate, weight_decay: see `corgi.train.fit.Schedule`.
        dropout: probability behind the max pool.
        warp, stretch, saturation, contrast, tint: see `corgi.train.augment.Augmentation`.
        threads: torch threads.
        workers: processes that pre-process pictures; 1 stays in this process.

    Raises:
        UsageError: a value outside its range.
    """

    epochs: int = 100
    seed: int = 0
    validation: float = 0.05
    batch_size: int = 64
    learning_rate: float = 0.02
    weight_decay: float = 1e-3
    dropout: float = 0.05
    warp: float = 0.13
    stretch: float = 0.6
    saturation: float = 0.6
    contrast: float = 0.15
    tint: float = 0.1
    threads: int = 1
    workers: int = 2

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("threads", 1), ("workers", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected at least {least}")
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed is {self.seed}, expected 0 .. 2^63 - 1")
        for name in (
            "weight_decay",
            "dropout",
            "warp",
            "stretch",
            "saturation",
            "contrast",
            "tint",
        ):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, expected a number in [0, 1)")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise UsageError(f"learning_rate is {self.learning_rate}, expected a positive number")
        if not 0 < self.validation < 1:
            raise UsageError(f"validation is {self.validation}, expected a number between 0 and 1")


@dataclass(frozen=True)
class Progress:
    """One sign of life: the stage (`read` or `train`), how much of it is done, and a note for people."""

    stage: str
    done: int
    total: int
    note: str


@dataclass(frozen=True)
class ClassAccuracy:
    """Test result of one class: images, and how many of them were classified correctly."""

    class_id: int
    images: int
    correct: int


@dataclass(frozen=True)
class TrainingReport:
    """What a training run did.

    Attributes:
        model: the ONNX file; card: its model card.
        command: the command line that repeats it.
        options: all options.
        training_images, training_tracks: what the weights were fitted on.
        validation_images, validation_tracks: what chose the epoch.
        epoch: the epoch chosen (from 1); validation_accuracy: its accuracy there.
        test_accuracy: on all test images, through onnxruntime from the written file.
        test_classes: the same by class.
        export_difference: see `corgi.train.export.check_export`.
        torch_version: the library that trained.
        seconds: wall time, pre-processing included.
    """

    model: Path
    card: Path
    command: str
    options: TrainOptions
    training_images: int
    training_tracks: int
    validation_images: int
    validation_tracks: int
    epoch: int
    validation_accuracy: float
    test_accuracy: float
    test_classes: tuple[ClassAccuracy, ...]
    export_difference: float
    torch_version: str
    seconds: float

    @property
    def test_images(self) -> int:
        """Number of test images."""
        return sum(entry.images for entry in self.test_classes)


@dataclass(frozen=True)
class _Prepared:
    """The data of one run: samples for the counts, images for the work."""

    training: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    training_data: LabelledImages
    validation_data: LabelledImages
    test_data: LabelledImages


def train_gtsrb(
    data_dir: Path,
    out_path: Path,
    options: TrainOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingReport:
    """Train on a GTSRB folder; write `out_path` (ONNX) and the model card beside it (`.md`).

    The same options, data, machine and torch give the same file. The graph is exactly the paper's
    (`corgi.train.network`): input `image` [N, 3, 48, 48] in [0, 1], output `logits` [N, 43].

    Args:
        data_dir: folder with `Training/` and `Final_Test/` (`corgi.data.gtsrb`).
        out_path: the ONNX file to write.
        options: None for the defaults.
        progress: called for every part of the pictures read and for every epoch.

    Raises:
        DataError: the folder is not laid out as GTSRB is, or too small to split.
        ImageError: a picture cannot be read.
        UsageError: `out_path` does not end in `.onnx`.
        ModelError: the exported file does not compute what the trained network does.
    """
    options = options or TrainOptions()
    report_progress = progress or (lambda event: None)
    if out_path.suffix != ".onnx":
        raise UsageError(f"{out_path}: expected a file name that ends in .onnx")
    start = time.perf_counter()
    data = _prepare(data_dir, options, report_progress)
    fitted = _fit(data, options, report_progress)
    report = _export(data, fitted, out_path, options, start)
    report.card.write_text(model_card(report), encoding="utf-8")
    return report


def _prepare(data_dir: Path, options: TrainOptions, progress: Callable[[Progress], None]) -> _Prepared:
    test = read_test(data_dir)
    training, validation = split_by_track(read_training(data_dir), options.validation, options.seed)
    if not validation:
        raise DataError(
            f"{data_dir}: no class has tracks enough to hold out {options.validation:.0%} for validation",
            hint="Use the whole data set, or hold out a larger part.",
        )
    samples = (*training, *validation, *test)
    images = np.empty((len(samples), *INPUT_SHAPE), np.float32)
    for index, image in enumerate(_inputs([sample.path for sample in samples], options.workers)):
        images[index] = image
        if index % 100 == 99 or index + 1 == len(samples):
            progress(Progress("read", index + 1, len(samples), f"{index + 1} of {len(samples)} pictures"))
    labels = torch.tensor([sample.class_id for sample in samples])
    sizes = [len(training), len(validation), len(test)]
    parts = zip(torch.split(torch.from_numpy(images), sizes), torch.split(labels, sizes), strict=True)
    return _Prepared(training, validation, *starmap(LabelledImages, parts))


def _inputs(paths: Sequence[Path], workers: int) -> Iterator[NDArray[np.float32]]:
    read = partial(load_input, input_shape=INPUT_SHAPE, recipe=GTSRB, model_recipe=None)
    if workers == 1:
        yield from map(read, paths)
        return
    # Spawned, not forked: a fork copies the locks of torch's threads in whatever state they are.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(read, paths, chunksize=32)


def _fit(data: _Prepared, options: TrainOptions, progress: Callable[[Progress], None]) -> Fitted:
    def show(epoch: Epoch) -> None:
        note = f"loss {epoch.loss:.4f}, validation accuracy {epoch.accuracy:.2%}"
        progress(Progress("train", epoch.number, options.epochs, note))

    schedule = Schedule(options.epochs, options.batch_size, options.learning_rate, options.weight_decay)
    augmentation = Augmentation(
        options.warp, options.stretch, options.saturation, options.contrast, options.tint, MIRRORED
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(options.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(options.seed)
            generator = torch.Generator().manual_seed(options.seed)
            network = gu2020_network(len(CLASS_NAMES), options.dropout)
            return fit(
                network, data.training_data, data.validation_data, schedule, augmentation, generator, show
            )
    finally:
        torch.set_num_threads(threads)


def _export(
    data: _Prepared, fitted: Fitted, path: Path, options: TrainOptions, start: float
) -> TrainingReport:
    folded = fold_batch_norms(fitted.network)
    write_onnx(folded, INPUT_SHAPE, path, {})
    images = data.test_data.images.numpy()
    difference = check_export(fitted.network, path, images)
    guesses = run_onnx(path, images).argmax(1)
    classes = _by_class(guesses, data.test_data.labels.numpy())
    report = TrainingReport(
        model=path,
        card=path.with_suffix(".md"),
        command=f"corgi train gtsrb --data DIR --out {path} --seed {options.seed} --epochs {options.epochs}",
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
    write_onnx(folded, INPUT_SHAPE, path, _metadata(report))
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
        METADATA_KEY: str(GTSRB),
        CLASS_NAMES_KEY: json.dumps(CLASS_NAMES),
        TRAINING_KEY: json.dumps(training),
    }
