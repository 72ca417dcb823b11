"""What a report is made from: the rows of stores, whoever keeps them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from corgi.reporting.document import RadiiDocument, VerifyDocument
from corgi.reporting.sweep import SweepDocument
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


Answered = Annotated[VerifyDocument | SweepDocument, Field(discriminator="kind")]
"""The document of an answer: of a ball, or along a change."""

_READER: TypeAdapter[VerifyDocument | SweepDocument] = TypeAdapter(Answered)


def read_answer(text: str) -> VerifyDocument | SweepDocument:
    """The document that a row holds as JSON.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _READER.validate_json(text)


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
    document: Answered | None
    radii: RadiiDocument | None = None

    @property
    def certified(self) -> float:
        """The certified radius or size; 0 where nothing is certified or there is no answer."""
        document = self.document
        if document is None:
            return 0.0
        return document.certified_size if isinstance(document, SweepDocument) else document.certified_radius

    @property
    def attacked(self) -> float | None:
        """Distance or size of the witness; None if there is none."""
        document = self.document
        if isinstance(document, SweepDocument):
            return None if document.witness is None else document.witness.size
        return None if document is None else document.attack_radius

    @property
    def broken(self) -> float | None:
        """Where it is first broken: at the witness; along a change also where that is proved."""
        return self.document.broken_size if isinstance(self.document, SweepDocument) else self.attacked

    @property
    def ratio(self) -> float | None:
        """Attack over certified radius; None unless both are positive, and along a change."""
        return self.document.ratio if isinstance(self.document, VerifyDocument) else None

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
        label = self.document.label if isinstance(self.document, VerifyDocument) else None
        return None if label is None else label.joint_radius


@dataclass(frozen=True)
class Pictures:
    """What a card draws of a case. Maps are float32, for drawing: the sets of pixels are in the document.

    Attributes:
        image_png: the network input as an 8-bit PNG.
        change_png: witness minus image around middle grey (128), amplified to the full range; along a change
            the witness itself; None without a witness.
        cam, witness_cam: the maps [h, w] of image and witness.
    """

    image_png: bytes
    change_png: bytes | None
    cam: NDArray[np.float32]
    witness_cam: NDArray[np.float32] | None
