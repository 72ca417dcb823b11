"""What a training run is given and what it reports, whatever the data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from corgi.data.preprocess import Recipe
from corgi.data.samples import Sample
from corgi.train.augment import Augmentation
from corgi.train.options import TrainOptions


@dataclass(frozen=True)
class Words:
    """What the model card says that no run can find out. Tuples become lists.

    Attributes:
        title: what is recognised, as "traffic signs".
        model: what kind of network it is.
        data: where the pictures come from, how they were split and how training images are changed.
        things: what tracks are called, as "physical signs"; None where each picture has its own.
        accuracy: what to know when reading the accuracy.
        use: what the model is for, and what not.
    """

    title: str
    model: str
    data: str
    things: str | None
    accuracy: tuple[str, ...]
    use: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """What is learned: all in which training on one data set differs from training on another.

    Attributes:
        command: the words behind `corgi train` that choose it.
        read_training, read_test: samples of a data folder; those of training have tracks.
        official_test_images: size of the official test set, to say what part of it was used.
        class_names: one a class id.
        input_shape: C, H, W of the network input.
        recipe: pre-processing of the pictures.
        network: makes the network, initialised from torch's global generator.
        augmentation: changes of each batch.
        words: for the model card.
    """

    command: str
    read_training: Callable[[Path], tuple[Sample, ...]]
    read_test: Callable[[Path], tuple[Sample, ...]]
    official_test_images: int
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    recipe: Recipe
    network: Callable[[], nn.Module]
    augmentation: Augmentation
    words: Words


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
        task: what was learned.
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

    task: Task
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
