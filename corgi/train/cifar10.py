"""Train a modern architecture on CIFAR-10."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from corgi.data.cifar10 import CLASS_NAMES, read_test, read_training
from corgi.data.preprocess import Recipe
from corgi.train.architectures import BUILDERS, INPUT_SHAPE, Architecture, Normalise
from corgi.train.augment import Augmentation
from corgi.train.options import Cifar10Options
from corgi.train.run import Progress, train
from corgi.train.task import Task, TrainingReport, Words

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of red, green, blue over the 50,000 official training images; pixels in [0, 1]."""


def train_cifar10(
    data_dir: Path,
    out_path: Path,
    options: Cifar10Options | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingReport:
    """Train on a CIFAR-10 folder; write `out_path` (ONNX) and the model card beside it (`.md`).

    The graph: input `image` [N, 3, 32, 32] in [0, 1], output `logits` [N, 10].

    Args:
        data_dir: folder with `train/` and `test/` (`corgi.data.cifar10`).
        out_path: the ONNX file to write.
        options: None for the defaults.
        progress: called for every part of the pictures read and for every epoch.

    Raises:
        CorgiError: as `corgi.train.run.train`.
    """
    options = options or Cifar10Options()
    return train(_task(options), data_dir, out_path, options, progress)


def _task(options: Cifar10Options) -> Task:
    architecture = BUILDERS[options.architecture]
    return Task(
        command=f"cifar10 --architecture {options.architecture}",
        read_training=read_training,
        read_test=read_test,
        official_test_images=10_000,
        class_names=CLASS_NAMES,
        input_shape=INPUT_SHAPE,
        recipe=Recipe(),
        network=partial(architecture.build, len(CLASS_NAMES), Normalise(MEAN, STD)),
        augmentation=Augmentation(crop=options.crop, mirrored={c: c for c in range(len(CLASS_NAMES))}),
        words=_words(architecture),
    )


def _words(architecture: Architecture) -> Words:
    return Words(
        title="tiny pictures",
        model=f"A classifier of the ten CIFAR-10 classes: {architecture.description}. It was trained from"
        " scratch by corgi. Batch normalisation was used in training and is folded into the convolutions;"
        " the normalisation of the pixels is part of the network.",
        data="CIFAR-10 (Krizhevsky 2009), as JPEG pictures in folders. Validation images are drawn at"
        " random, the same part of each class. Training images are shifted by whole pixels and mirrored"
        " at random.",
        things=None,
        accuracy=(
            "The learning rate was settled in a few short trials that saw training images alone; the test"
            " images played no part.",
        ),
        use=(
            "A real network of a modern architecture on which the certification of class activation maps"
            " can be shown, tested and compared.",
            "Not for recognising things in photographs: it knows ten classes in tiny pictures, and nothing"
            " was done to make it robust or its probabilities honest.",
        ),
    )
