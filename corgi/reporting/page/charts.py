"""Charts of a run as inline SVG: figures 2b and 2c of Gu et al. for any classes, and shares by radius.

Colours, lines and dark mode are the page's style sheet; nothing here carries a style of its own. Thousands of
points are one path, and points on one spot are drawn once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from corgi.errors import printable
from corgi.reporting.case import Case
from corgi.reporting.facts import plain
from corgi.reporting.summary import Run, round_numbers
from corgi.reporting.wording import class_label, round_down

MOST_CLASSES = 6
"""Runs with more classes get one chart of all of them."""

FEWEST_IMAGES = 5
"""A class with fewer shares a chart with others."""

_BINS = 20
_WIDTH, _HEIGHT = 460, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 20, 30, 44


@dataclass(frozen=True)
class _Axis:
    """Numbers from `low` to `high` on pixels from `start` to `end`, even or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value, one decimal."""
        low, high = (math.log(v) if self.logarithmic else v for v in (self.low, self.high))
        place = math.log(value) if self.logarithmic else value
        return round(self.start + (place - low) / (high - low) * (self.end - self.start), 1)


def class_groups(run: Run) -> list[tuple[str, tuple[Case, ...]]]:
    """The cases of a run as its charts show them: by class, rare ones together; all, if classes are many."""
    frequent = [shown for shown in run.classes if shown.summary.images >= FEWEST_IMAGES]
    if not 1 <= len(frequent) <= MOST_CLASSES:
        return [("all classes", run.cases)]
    groups = [
        (printable(class_label(shown.class_id, shown.class_name)), _of_classes(run, {shown.class_id}))
        for shown in frequent
    ]
    rare = {shown.class_id for shown in run.classes} - {shown.class_id for shown in frequent}
    return [*groups, ("other classes", _of_classes(run, rare))] if rare else groups


def _of_classes(run: Run, chosen: Collection[int]) -> tuple[Case, ...]:
    return tuple(c for c in run.cases if c.document is not None and c.document.class_id in chosen)


def radii_chart(title: str, cases: Sequence[Case], of: str) -> Markup:
    """Figure 2b: certified and attack radius, or size, of every image, sorted by the certified one."""
    ordered = sorted(cases, key=lambda case: case.certified)
    found = [r for case in cases for r in (case.certified, case.attacked) if r is not None and r > 0]
    if not found:
        return Markup("")
    across, up = _Axis(0.5, len(ordered) + 0.5, _LEFT, _WIDTH - _RIGHT), _radius_axis(found, vertical=True)
    certified = [(across.at(i), up.at(c.certified)) for i, c in enumerate(ordered, 1) if c.certified > 0]
    attacked = [(across.at(i), up.at(c.attacked)) for i, c in enumerate(ordered, 1) if c.attacked]
    left_out = sum(case.certified <= 0 for case in ordered)
    note = f"; {left_out} without a certificate" if left_out else ""
    parts = [
        _grid(up, vertical=True),
        _count_axis(across, f"images, sorted by certified {of.split()[-1]}{note}"),
        _points(attacked, "attack"),
        _points(certified, "certified"),
        _legend([("certified", "certified"), ("attack", "attack")]),
    ]
    about = f"{of}, certified and of attacks, of each of {len(ordered)} images"
    return _chart(title, about, parts)


def ratio_chart(title: str, cases: Sequence[Case]) -> Markup:
    """Figure 2c: how often attack / certified is how large, and its median."""
    ratios = np.array([c.attacked / c.certified for c in cases if c.attacked is not None and c.certified > 0])
    if not len(ratios):
        return Markup("")
    end = _ratio_end(ratios)
    inside = ratios[ratios <= end]
    counts, edges = np.histogram(inside, _BINS, (1.0, end))
    across = _Axis(1.0, end, _LEFT, _WIDTH - _RIGHT)
    up = _Axis(0, max(int(counts.max()), 1), _HEIGHT - _BOTTOM, _TOP)
    bars = "".join(
        f'<rect x="{across.at(a)}" y="{up.at(n)}" width="{across.at(b) - across.at(a) - 1:.1f}"'
        f' height="{_HEIGHT - _BOTTOM - up.at(n):.1f}"/>'
        for n, a, b in zip(counts, edges[:-1], edges[1:], strict=True)
        if n
    )
    median = float(np.median(ratios))
    outside = len(ratios) - len(inside)
    note = f"; {outside} of {len(ratios)} beyond {end:g}" if outside else ""
    parts = [
        _grid(up, vertical=True, ticks=sorted({round(t) for t in _even_ticks(0, up.high)})),
        _ticks_across(across, _even_ticks(1.0, end), f"attack / certified{note}"),
        f'<g class="bars">{bars}</g>',
    ]
    if median <= end:
        x = across.at(median)
        anchor = "start" if x < _WIDTH / 2 else "end"
        shift = 5 if anchor == "start" else -5
        parts.append(f'<path class="median" d="M{x} {_TOP}V{_HEIGHT - _BOTTOM}"/>')
        parts.append(
            f'<text x="{x + shift:.1f}" y="{_TOP + 12}" text-anchor="{anchor}">median {plain(median)}</text>'
        )
    return _chart(title, f"histogram of attack / certified of {len(ratios)} images", parts)


def share_chart(run: Run, axis: str) -> Markup:
    """The share of images certified at each radius, and the share that no witness refutes there."""
    found = [r for case in run.cases for r in (case.certified, case.attacked) if r is not None and r > 0]
    if not found:
        return Markup("")
    across, up = _radius_axis(found, vertical=False), _Axis(0, 1, _HEIGHT - _BOTTOM, _TOP)
    images = len(run.cases)
    certified = sorted(case.certified for case in run.cases if case.certified > 0)
    attacked = sorted(case.broken_from for case in run.cases if math.isfinite(case.broken_from))
    never = images - len(attacked)
    lower = _falling(certified, 0, images, across, up)
    upper = _falling(attacked, never, images, across, up)
    parts = [
        _grid(up, vertical=True, ticks=[0, 0.25, 0.5, 0.75, 1], percent=True),
        _ticks_across(across, _log_ticks(across), axis, grid=True),
        f'<path class="line attack" d="{upper}"/>',
        f'<path class="line certified" d="{lower}"/>',
        _legend([("certified", "certified: at least"), ("attack", "no witness: at most")]),
    ]
    about = f"shares of images against the {run.measure.noun}"
    return _chart("Share of images that keep the property", about, parts)


def _falling(radii: Sequence[float], never: int, images: int, across: _Axis, up: _Axis) -> str:
    """A path of the share of images whose radius is at least x; `never` of them for every x."""
    steps = [f"M{across.start} {up.at((len(radii) + never) / images)}"]
    drawn = ""
    for i, radius in enumerate(radii, 1):
        step = f"H{across.at(max(radius, across.low))}V{up.at((len(radii) - i + never) / images)}"
        if step != drawn:
            steps.append(step)
        drawn = step
    return "".join([*steps, f"H{across.end}"])


def _radius_axis(found: Sequence[float], *, vertical: bool) -> _Axis:
    low, high = min(found) / 1.15, max(found) * 1.15
    if vertical:
        return _Axis(low, high, _HEIGHT - _BOTTOM, _TOP, logarithmic=True)
    return _Axis(low, high, _LEFT, _WIDTH - _RIGHT, logarithmic=True)


def _ratio_end(ratios: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """Where the histogram ends: 1 + a round number past most ratios, and at most 20 as in the paper."""
    far = max(1.2 * (float(np.quantile(ratios, 0.95)) - 1), 1e-3)
    return min(20.0, 1 + round_numbers(far, 10 * far)[0])


def _log_ticks(axis: _Axis) -> list[float]:
    """At most six round numbers of a logarithmic axis."""
    ticks = round_numbers(axis.low, axis.high)
    tens = [tick for tick in ticks if f"{tick:e}".startswith("1")]
    kept = tens if len(ticks) > 6 and len(tens) > 1 else ticks
    return kept[:: -(-len(kept) // 6)] if kept else []


def _even_ticks(low: float, high: float) -> list[float]:
    """From two to five multiples of a round number between `low` and `high`."""
    step = round_numbers((high - low) / 4, 10 * (high - low))[0]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _grid(axis: _Axis, *, vertical: bool, ticks: Sequence[float] | None = None, percent: bool = False) -> str:
    """Horizontal lines with their numbers at the left."""
    lines = []
    for tick in _log_ticks(axis) if ticks is None else ticks:
        y, text = axis.at(tick), f"{tick:.0%}" if percent else round_down(tick, 12)
        lines.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    return f'<g class="grid">{"".join(lines)}</g>'


def _ticks_across(axis: _Axis, ticks: Sequence[float], label: str, *, grid: bool = False) -> str:
    base = _HEIGHT - _BOTTOM
    parts = [f'<path class="axis" d="M{_LEFT} {base}H{_WIDTH - _RIGHT}"/><g class="grid">']
    for tick in ticks:
        x = axis.at(tick)
        parts.append(f'<path d="M{x} {_TOP if grid else base}V{base + 4}"/>')
        parts.append(f'<text x="{x}" y="{base + 17}" text-anchor="middle">{round_down(tick, 12)}</text>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'</g><text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(label)}</text>')
    return "".join(parts)


def _count_axis(axis: _Axis, label: str) -> str:
    count = round(axis.high - 0.5)
    ticks = sorted({1, *(round(t) for t in _even_ticks(0, count) if t >= 1)}) if count > 1 else [1]
    return _ticks_across(axis, ticks, label)


def _points(places: Iterable[tuple[float, float]], name: str) -> str:
    """Many points as one path of dots; those on one spot once."""
    dots = "".join(f"M{x:g} {y:g}h0" for x, y in dict.fromkeys(places))
    return f'<path class="points {name}" d="{dots}"/>'


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    keys = "\N{NO-BREAK SPACE}\N{NO-BREAK SPACE} ".join(
        f'<tspan class="key {name}">\N{BLACK CIRCLE}</tspan> {escape(text)}' for name, text in entries
    )
    return f'<text x="{_WIDTH - _RIGHT}" y="{_TOP - 12}" text-anchor="end">{keys}</text>'


def _chart(title: str, about: str, parts: Sequence[str]) -> Markup:
    label = escape(f"{title}: {about}", quote=True)
    body = "".join(parts)
    return Markup(
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{body}</svg></figure>'
    )
