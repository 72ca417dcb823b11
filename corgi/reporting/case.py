"""What a report is made from: the rows of stores, whoever keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from corgi.reporting.document import RadiiDocument, VerifyDocument
from corgi.reporting.versions import Versions


@dataclass(frozen=True)
class Setup:
    """What all rows of a run share: the model, what was asked of it, and the code that answered.

    Attributes:
        model, model_sha256: the file verified.
        parameters: all that the answer depends on beside model, image and code, by name.
        code: which code answered.
    """

    model: str
    model_sha256: str
    parameters: dict[str, Any]
    code: str


@dataclass(frozen=True)
class Call:
    """One call of the command that filled a run, or a part of it.

    Attributes:
        command: the command line; host: the machine; workers, threads: processes, and threads of each.
        versions: releases of what took part.
        started, finished: ISO 8601, UTC; None for a call that goes on or was killed.
    """

    command: str
    host: str
    workers: int
    threads: int
    versions: Versions
    started: str
    finished: str | None


@dataclass(frozen=True)
class Case:
    """One image of one run.

    Attributes:
        key: finds its pictures in the store.
        image, image_sha256: name and digest of the file; true_class: what the data says it shows.
        status: of a verification, or why there is none (failed, error, crashed);
            reason: why no more was reached.
        seconds: wall time, None where nobody measured.
        document: the answer; None if there is none.
        radii: radii of its pixels, where they were computed.
    """

    key: int
    image: str
    image_sha256: str
    true_class: str | None
    status: str
    reason: str
    seconds: float | None
    document: VerifyDocument | None
    radii: RadiiDocument | None = None

    @property
    def certified(self) -> float:
        """The certified radius; 0 where nothing is certified or there is no answer."""
        return 0.0 if self.document is None else self.document.certified_radius

    @property
    def attacked(self) -> float | None:
        """Distance of the witness; None if there is none."""
        return None if self.document is None else self.document.attack_radius

    @property
    def holds(self) -> bool:
        """Whether the property is known to hold at the image itself."""
        document = self.document
        if document is None:
            return False
        if document.property is None:  # of an older release
            return not (document.tie and document.k2 == document.k)
        return document.property.holds_at_image is True

    @property
    def broken_from(self) -> float:
        """From which radius on the property is known to be broken: 0 where it fails at the image itself."""
        asked = None if self.document is None else self.document.property
        if asked is not None and asked.holds_at_image is False:
            return 0.0
        return math.inf if self.attacked is None else self.attacked

    @property
    def correct(self) -> bool | None:
        """Whether the class predicted is the one the data says; None where that cannot be told."""
        document, said = self.document, self.true_class
        if document is None or said is None:
            return None
        if said.isdecimal():
            return int(said) == document.predicted_class
        known = document.class_name is not None and document.class_id == document.predicted_class
        return said == document.class_name if known else None

    @property
    def joint(self) -> float | None:
        """Within which map and label both stay; None where the label was not looked at."""
        if self.document is None or self.document.label is None:
            return None
        return self.document.label.joint_radius


@dataclass(frozen=True)
class Pictures:
    """What a card draws of a case. Maps are float32, for drawing: the sets of pixels are in the document.

    Attributes:
        image_png: the network input as an 8-bit PNG.
        change_png: witness minus image around middle grey (128), amplified to the full range; None without
            a witness.
        cam, witness_cam: the maps [h, w] of image and witness.
    """

    image_png: bytes
    change_png: bytes | None
    cam: NDArray[np.float32]
    witness_cam: NDArray[np.float32] | None
