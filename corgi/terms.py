"""The words corgi shares with its user: what can be chosen and what is answered, by name.

They stand apart from what carries them out, and import nothing heavy: the command line is read, and refused
where it is wrong, before torch loads.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


class Status(StrEnum):
    """How a question ended."""

    CERTIFIED = "certified"
    """A search found a positive certified radius."""
    PROVED = "proved"
    """The property holds on the whole ball of the radius asked for."""
    REFUTED = "refuted"
    """A witness within the radius asked for breaks the property."""
    UNKNOWN = "unknown"
    """Neither a proof nor a witness; or a certified radius of 0. The reason says why."""
    TIME_LIMIT = "time_limit"
    """Time ran out; the certified radius is the best one until then."""
    INTERRUPTED = "interrupted"
    """The user stopped the search; the certified radius is the best one until then."""


class Finding(StrEnum):
    """What is known of a part of a family of images."""

    HOLDS = "holds"
    """The property is proved at every point of it."""
    BROKEN = "broken"
    """It is proved to be broken at every point of it, in real arithmetic."""
    OPEN = "open"


class ColourOrder(StrEnum):
    """In which order a network takes the channels of a picture."""

    RGB = "rgb"
    """Red, green, blue: as images are here, always."""
    BGR = "bgr"
    """Blue, green, red: networks from OpenCV, Caffe and PaddlePaddle."""


class Answer(StrEnum):
    """How a VNN-LIB question ended, by the competition's words."""

    SAT = "sat"
    """A confirmed witness: the property is violated."""
    UNSAT = "unsat"
    """Proved: no input satisfies the specification."""
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"
    ERROR = "error"


class Norm(StrEnum):
    """The norms a ball can have."""

    LINF = "linf"
    L2 = "l2"
    L1 = "l1"

    @property
    def order(self) -> float:
        """The p of l_p."""
        return {Norm.LINF: math.inf, Norm.L2: 2.0, Norm.L1: 1.0}[self]

    @property
    def label(self) -> str:
        """As people write it."""
        return {Norm.LINF: "l_inf", Norm.L2: "l_2", Norm.L1: "l_1"}[self]

    @property
    def dual(self) -> Norm:
        """The l_q with 1/p + 1/q = 1: |a . d| <= ||a||_q ||d||_p (Hoelder)."""
        return {Norm.LINF: Norm.L1, Norm.L2: Norm.L2, Norm.L1: Norm.LINF}[self]

    def sizes(self, values: Tensor) -> Tensor:
        """The norm of each of some images or rows [N, C, H, W], up to rounding: float64 [N]."""
        import torch

        found: Tensor = torch.linalg.vector_norm(values, self.order, dim=(1, 2, 3), dtype=torch.float64)
        return found


class MapKind(StrEnum):
    """Which map of a network is explained."""

    CAM = "cam"
    """The class activation map: the head's own weights."""
    GRADCAM = "gradcam"
    """Grad-CAM with its weights fixed at the image (`gradcam.py`)."""

    @property
    def in_words(self) -> str:
        """The map as a claim names it: what kind of map it is decides what the claim says."""
        if self is MapKind.GRADCAM:
            return "the gradient-weighted map (Grad-CAM, its weights fixed at this image)"
        return "the map"


class Form(StrEnum):
    """Which linear forms are bounded."""

    FEATURE = "feature"
    """Feature-wise intervals, combined with the class weights (theory 1.1): the paper's own bound."""
    FOLDED = "folded"
    """Intervals of the folded map (theory 1.2)."""
    PAIRWISE = "pairwise"
    """Folded intervals, then the pairs they leave open as one form each (theory 1.3)."""


class PatchMethod(StrEnum):
    """Relaxations of the patch engine, from fast and loose to slow and tight."""

    CROWN_IBP = "crown-ibp"
    CROWN = "crown"
    ALPHA_CROWN = "alpha-crown"
    FOCUS = "focus"


class LirpaMethod(StrEnum):
    """Methods of auto_LiRPA, from fast and loose to slow and tight."""

    IBP = "ibp"
    CROWN_IBP = "crown-ibp"
    CROWN = "crown"
    ALPHA_CROWN = "alpha-crown"


class LipschitzMethod(StrEnum):
    """How gradients are bounded, from fast and loose to slow and tight."""

    NORMS = "lipschitz-norms"
    """The product of operator norms; the same for every ball."""
    INTERVALS = "lipschitz-intervals"
    """Intervals of the Jacobian over the ball, values bounded by intervals."""
    ROWS = "lipschitz-rows"
    """Jacobian rows linear in the derivatives of windows that linear bounds leave undecided."""


class EngineName(StrEnum):
    """The bounding engines a user can choose."""

    PATCH = "patch"
    LIRPA = "lirpa"
    LIPSCHITZ = "lipschitz"


class Method(StrEnum):
    """All ways to certify: relaxations from fast and loose to slow and tight, then Lipschitz constants."""

    IBP = "ibp"
    CROWN_IBP = "crown-ibp"
    CROWN = "crown"
    ALPHA_CROWN = "alpha-crown"
    FOCUS = "focus"
    EXACT = "exact"
    LIPSCHITZ = "lipschitz"
    LIPSCHITZ_NORMS = "lipschitz-norms"
    LIPSCHITZ_INTERVALS = "lipschitz-intervals"
    LIPSCHITZ_ROWS = "lipschitz-rows"


class AttackKind(StrEnum):
    """The attacks a user can choose."""

    MARGIN = "margin"
    TOPK = "topk"
    TOPK_SOFTPLUS = "topk-softplus"


class PropertyName(StrEnum):
    """What can be asked of a map."""

    TOPK = "topk"
    """The k largest pixels stay the same, or among the k2 largest."""
    OVERLAP = "overlap"
    """So many of the k largest stay among the k largest."""
    POINTING = "pointing"
    """The largest pixel lies inside a region."""
    INSIDE = "inside"
    """So many of the k largest lie inside a region."""
    IOU = "iou"
    """The mask of large pixels keeps so much of its intersection over union."""
    ORDER = "order"
    """Some pixels stay above some others."""
    CENTRE = "centre"
    """The mass centre of the positive part stays where it is."""


class Claim(StrEnum):
    """What a statistical certificate claims of the k largest pixels of the empirical smoothed map."""

    OVERLAP = "overlap"
    """At least so many of them stay among the k largest."""
    RANK = "rank"
    """Each of them keeps at least a certain rank."""
    PIXELS = "pixels"
    """Of single pixels: in the top set of the base map for more than half of all noise, or for less."""
    RENYI = "renyi"
    """The same as `OVERLAP`, of the map averaged by ranks, by Renyi divergence."""


class MapName(StrEnum):
    """Which map is averaged over noise."""

    CAM = "cam"
    GRADCAM = "gradcam"
    SALIENCY = "saliency"
    INTEGRATED_GRADIENTS = "integrated-gradients"


class MapForm(StrEnum):
    """What becomes of the values of a map that is averaged."""

    SCALED = "scaled"
    QUADRATIC = "quadratic"
    SPARSIFIED = "sparsified"
    RELAXED = "relaxed"


class Confidence(StrEnum):
    """How intervals of a smoothed map are found."""

    HOEFFDING = "hoeffding"
    """Any values in [0, 1] (L Corollary 1)."""
    CLOPPER_PEARSON = "clopper-pearson"
    """Values 0 and 1: exact binomial intervals."""
    BERNSTEIN = "bernstein"
    """Any values in [0, 1]; narrow where their variance is small (Maurer and Pontil 2009, Theorem 4)."""


class Correction(StrEnum):
    """How tests of all pixels hold at once; neither assumes that pixels are independent."""

    BONFERRONI = "bonferroni"
    HOLM = "holm"


Size = int | Literal["auto"] | None
"""Of a top set: None for 15, or half of the pixels of a small map; "auto": the largest relative CAM gap."""

PICTURE_FORMATS = ("png", "pdf", "svg", "jpg", "jpeg", "webp")
"""Endings of files a picture can be written to."""

GAP = 0.005
"""How close witness and certificate come, relative, before an exact search ends, unless asked otherwise."""

PAGE_BUDGET = 12_000_000
"""Bytes of pictures in the page of a report, as they stand in it."""
