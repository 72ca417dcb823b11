"""Train the network of Gu et al. on GTSRB."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from corgi.data.gtsrb import CLASS_NAMES, MIRRORED, read_test, read_training
from corgi.data.preprocess import GTSRB
from corgi.train.augment import Augmentation
from corgi.train.network import INPUT_SHAPE, gu2020_network
from corgi.train.options import GtsrbOptions
from corgi.train.run import Progress, train
from corgi.train.task import Task, TrainingReport, Words


def train_gtsrb(
    data_dir: Path,
    out_path: Path,
    options: GtsrbOptions | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainingReport:
    """Train on a GTSRB folder; write `out_path` (ONNX) and the model card beside it (`.md`).

    The graph is exactly the paper's (`corgi.train.network`): input `image` [N, 3, 48, 48] in [0, 1], output
    `logits` [N, 43].

    Args:
        data_dir: folder with `Training/` and `Final_Test/` (`corgi.data.gtsrb`).
        out_path: the ONNX file to write.
        options: None for the defaults.
        progress: called for every part of the pictures read and for every epoch.

    Raises:
        CorgiError: as `corgi.train.run.train`.
    """
    options = options or GtsrbOptions()
    return train(_task(options), data_dir, out_path, options, progress)


def _task(options: GtsrbOptions) -> Task:
    return Task(
        command="gtsrb",
        read_training=read_training,
        read_test=read_test,
        official_test_images=12_630,
        class_names=CLASS_NAMES,
        input_shape=INPUT_SHAPE,
        recipe=GTSRB,
        network=partial(gu2020_network, len(CLASS_NAMES), options.dropout),
        augmentation=Augmentation(
            warp=options.warp,
            stretch=options.stretch,
            saturation=options.saturation,
            contrast=options.contrast,
            tint=options.tint,
            mirrored=MIRRORED,
        ),
        words=_WORDS,
    )


_WORDS = Words(
    title="traffic signs",
    model="A classifier of the 43 GTSRB sign classes: two 3 x 3 convolutions with 8 channels, 2 x 2 max"
    " pooling, two with 16 channels, global average pooling, one dense layer; a ReLU behind each"
    " convolution. It is the architecture of Gu et al., trained from scratch by corgi. Batch normalisation"
    " was used in training and is folded into the convolutions and the dense layer.",
    data="the German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012). Images of one physical"
    " sign (a track) never stand on both sides of the split. Training images are changed at random by"
    " small warps, colour and mirroring.",
    things="physical signs",
    accuracy=(
        "The default augmentation was settled in a few trials whose test errors were looked at, so the"
        " test accuracy is slightly optimistic too.",
    ),
    use=(
        "A small, real network on which the certification of class activation maps can be shown, tested"
        " and compared.",
        "Not for recognising signs in traffic: it knows German signs in daylight, cut out around the sign;"
        ' it has no class for "no sign", and nothing was done to make it robust or its probabilities'
        " honest.",
        "Classes with few physical signs in training are recognised less well; the accuracy above depends"
        " on the mix of classes in the test images, so it is not the official benchmark figure.",
    ),
)
