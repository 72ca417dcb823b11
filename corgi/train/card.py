"""The model card of a trained network: a pure function of its training report."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import fields
from typing import TYPE_CHECKING

from corgi.data.gtsrb import CLASS_NAMES
from corgi.data.preprocess import GTSRB

if TYPE_CHECKING:
    from corgi.train.gtsrb import TrainingReport

OFFICIAL_TEST_IMAGES = 12_630
"""Size of the official GTSRB test set, to say what part of it was used."""


def model_card(report: TrainingReport) -> str:
    """The card as Markdown: what the model is, how it was made, how good it is, what it is for."""
    sections = (_what(report), _training(report), _accuracy(report), _use(report))
    return "\n\n".join(sections) + "\n"


def _what(report: TrainingReport) -> str:
    return f"""# {report.model.stem}: traffic signs, with class activation maps

A classifier of the {len(CLASS_NAMES)} GTSRB sign classes: two 3 x 3 convolutions with 8 channels, 2 x 2 max
pooling, two with 16 channels, global average pooling, one dense layer; a ReLU behind each
convolution. It is the architecture of Gu et al., trained from scratch by corgi. Batch normalisation
was used in training and is folded into the convolutions and the dense layer.

- Input `image`: [N, 3, 48, 48], red, green, blue in [0, 1]. Output `logits`: [N, {len(CLASS_NAMES)}].
- Pre-processing, also in the file's metadata: `{GTSRB}`.
- Class names and the facts below are in the file's metadata: `corgi.class_names`, `corgi.training`."""


def _training(report: TrainingReport) -> str:
    options = "\n".join(
        f"| {field.name} | {getattr(report.options, field.name)} |" for field in fields(report.options)
    )
    parts = (
        ("part", "images", "physical signs", "used for"),
        ("---", "---", "---", "---"),
        ("training", report.training_images, report.training_tracks, "weights"),
        ("validation", report.validation_images, report.validation_tracks, "choosing the epoch"),
        ("official test", f"{report.test_images} of {OFFICIAL_TEST_IMAGES}", "", "the accuracy below"),
    )
    table = "\n".join("| " + " | ".join(map(str, row)) + " |" for row in parts)
    return f"""## How it was trained

```
{report.command}
```

{report.seconds:.0f} s with torch {report.torch_version}, pre-processing included. The same data, options,
machine and torch version give the same file; another machine may round differently and end at other weights.

| option | value |
|---|---|
{options}

Data: the German Traffic Sign Recognition Benchmark (Stallkamp et al. 2012). Images of one physical
sign (a track) never stand on both sides of the split. Training images are changed at random by small
warps, colour and mirroring.

{table}"""


def _accuracy(report: TrainingReport) -> str:
    by_count: defaultdict[int, list[int]] = defaultdict(list)
    for entry in report.test_classes:
        by_count[entry.images].append(entry.class_id)
    mix = "; ".join(
        f"{count} each of {_class_list(classes)}" for count, classes in sorted(by_count.items(), reverse=True)
    )
    worst = sorted(report.test_classes, key=lambda entry: (entry.correct / entry.images, entry.class_id))[:5]
    rows = "\n".join(
        f"| {entry.class_id} {CLASS_NAMES[entry.class_id]} | {entry.correct} of {entry.images} |"
        for entry in worst
    )
    correct = sum(entry.correct for entry in report.test_classes)
    return f"""## How good it is

- Test accuracy: **{report.test_accuracy:.2%}** ({correct} of {report.test_images} images), computed by
  onnxruntime from the file itself. The images: {mix}.
- Validation accuracy: {report.validation_accuracy:.2%}, at epoch {report.epoch} of {report.options.epochs}.
  The epoch was chosen by it, so it is optimistic.
- The default augmentation was settled in a few trials whose test errors were looked at, so the test
  accuracy is slightly optimistic too.
- Largest difference between file and trained network: {report.export_difference:.1e} of the largest logit.

The classes with the lowest test accuracy:

| class | correct |
|---|---|
{rows}"""


def _class_list(classes: list[int]) -> str:
    if len(classes) > len(CLASS_NAMES) // 2:
        return f"{len(classes)} other classes" if len(classes) < len(CLASS_NAMES) else "all classes"
    names = ", ".join(map(str, classes))
    return f"class {names}" if len(classes) == 1 else f"classes {names}"


def _use(report: TrainingReport) -> str:
    return """## What it is for

- A small, real network on which the certification of class activation maps can be shown, tested and
  compared.
- Not for recognising signs in traffic: it knows German signs in daylight, cut out around the sign; it
  has no class for "no sign", and nothing was done to make it robust or its probabilities honest.
- Classes with few physical signs in training are recognised less well; the accuracy above depends on
  the mix of classes in the test images, so it is not the official benchmark figure."""
