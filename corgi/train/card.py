"""The model card of a trained network: a pure function of its training report."""

from __future__ import annotations

import textwrap
from collections import defaultdict
from dataclasses import fields

from corgi.train.task import TrainingReport

WIDTH = 105
"""Of a line of running text."""


def model_card(report: TrainingReport) -> str:
    """The card as Markdown: what the model is, how it was made, how good it is, what it is for."""
    sections = (_what(report), _training(report), _accuracy(report), _use(report))
    return "\n\n".join(sections) + "\n"


def _what(report: TrainingReport) -> str:
    task = report.task
    classes, shape = len(task.class_names), ", ".join(map(str, task.input_shape))
    return f"""# {report.model.stem}: {task.words.title}, with class activation maps

{_paragraph(task.words.model)}

- Input `image`: [N, {shape}], red, green, blue in [0, 1]. Output `logits`: [N, {classes}].
- Pre-processing, also in the file's metadata: `{task.recipe}`.
- Class names and the facts below are in the file's metadata: `corgi.class_names`, `corgi.training`."""


def _training(report: TrainingReport) -> str:
    options = "\n".join(
        f"| {field.name} | {getattr(report.options, field.name)} |" for field in fields(report.options)
    )
    parts: tuple[tuple[object, ...], ...] = (
        ("part", "images", report.task.words.things, "used for"),
        ("---", "---", "---", "---"),
        ("training", report.training_images, report.training_tracks, "weights"),
        ("validation", report.validation_images, report.validation_tracks, "choosing the epoch"),
        (
            "official test",
            f"{report.test_images} of {report.task.official_test_images}",
            "",
            "the accuracy below",
        ),
    )
    if report.task.words.things is None:
        parts = tuple((part, images, use) for part, images, _, use in parts)
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

{_paragraph("Data: " + report.task.words.data)}

{table}"""


def _accuracy(report: TrainingReport) -> str:
    names = report.task.class_names
    by_count: defaultdict[int, list[int]] = defaultdict(list)
    for entry in report.test_classes:
        by_count[entry.images].append(entry.class_id)
    mix = "; ".join(
        f"{count} each of {_class_list(classes, len(names))}"
        for count, classes in sorted(by_count.items(), reverse=True)
    )
    worst = sorted(report.test_classes, key=lambda entry: (entry.correct / entry.images, entry.class_id))[:5]
    rows = "\n".join(
        f"| {entry.class_id} {names[entry.class_id]} | {entry.correct} of {entry.images} |" for entry in worst
    )
    export = (
        f"Largest difference between file and trained network: {report.export_difference:.1e} of the"
        " largest logit."
    )
    correct = sum(entry.correct for entry in report.test_classes)
    return f"""## How good it is

- Test accuracy: **{report.test_accuracy:.2%}** ({correct} of {report.test_images} images), computed by
  onnxruntime from the file itself. The images: {mix}.
- Validation accuracy: {report.validation_accuracy:.2%}, at epoch {report.epoch} of {report.options.epochs}.
  The epoch was chosen by it, so it is optimistic.
{_items((*report.task.words.accuracy, export))}

The classes with the lowest test accuracy:

| class | correct |
|---|---|
{rows}"""


def _class_list(classes: list[int], total: int) -> str:
    if len(classes) > total // 2:
        return f"{len(classes)} other classes" if len(classes) < total else "all classes"
    names = ", ".join(map(str, classes))
    return f"class {names}" if len(classes) == 1 else f"classes {names}"


def _use(report: TrainingReport) -> str:
    return f"""## What it is for

{_items(report.task.words.use)}"""


def _items(sentences: tuple[str, ...]) -> str:
    return "\n".join(textwrap.fill(f"- {item}", WIDTH, subsequent_indent="  ") for item in sentences)


def _paragraph(text: str) -> str:
    return textwrap.fill(text, WIDTH)
