"""Cases and reports made by hand, from the results of `example_results.py`."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from corgi.reporting.case import Call, Case, Pictures, Setup
from corgi.reporting.document import RadiiDocument, VerifyDocument, verify_document
from corgi.reporting.summary import Origin, Report, make_report, make_run
from corgi.results import VerifyResult
from tests.reporting.example_results import RESULTS, VERSIONS, make_cam, make_image, make_result

HOSTILE = "a/<script>alert(1)</script>|`*.png"
CALL = Call(
    "corgi batch models/sign.onnx a --k 15",
    "host",
    2,
    1,
    VERSIONS,
    "2026-01-02T03:04:05.678+00:00",
    "2026-01-02T04:05:06.789+00:00",
)
ORIGIN = Origin(("runs.sqlite",), "corgi report runs.sqlite", "2026-01-03T00:00:00+00:00", VERSIONS)


def make_setup(**parameters: object) -> Setup:
    asked = {"k": 15, "k2": None, "method": "exact", "seed": 0, "norm": "linf"} | parameters
    return Setup("models/sign.onnx", "00" * 32, asked, "0.1.0 0123456789ab")


def make_case(key: int, result: VerifyResult, image: str = "", **changes: object) -> Case:
    image = image or f"a/{key:03d}.png"
    document = verify_document(replace(result, image_name=image), VERSIONS).model_copy(update=changes)
    digest = f"{key:064x}"
    status, reason = document.status, document.reason
    return Case(key, image, digest, "17", status, reason, document.seconds, document)


def make_failure(key: int, image: str = HOSTILE) -> Case:
    return Case(key, image, f"{key:064x}", None, "failed", f"{image}: not a picture", None, None)


def make_radii(document: VerifyDocument) -> RadiiDocument:
    """Radii of the pixels of the same map: larger from row to row, 0 in the first."""
    shared = {name: getattr(document, name) for name in RadiiDocument.model_fields if hasattr(document, name)}
    certified = tuple(tuple(0.001 * row for _ in range(24)) for row in range(24))
    found = {
        "schema_version": "1",
        "kind": "radii",
        "certified": certified,
        "searched": (),
        "interrupted": False,
    }
    return RadiiDocument(**shared | found)


def small_report() -> Report:
    """Two runs: every way a verification can end and a failure; and two of the images with smaller radii."""
    first = [make_case(key, result) for key, result in enumerate(RESULTS.values())]
    first.append(make_failure(len(first)))
    second = [
        make_case(key, make_result(), certified_radius=radius, ratio=0.0015625 / radius)
        for key, radius in ((0, 0.0008), (2, 0.00113456))
    ]
    runs = [
        make_run(make_setup(), [CALL], first),
        make_run(make_setup(method="crown"), [replace(CALL, finished=None)], second),
    ]
    return make_report("Signs", runs, ORIGIN)


def large_report(count: int) -> Report:
    """Many images with different radii in one run, pixels' radii for the first; in another ten once more."""

    def scaled(key: int, factor: float) -> Case:
        certified = 1e-4 * (1 + key * 7919 % count) * factor
        attack = 1.1 * certified / factor
        changes = {"certified_radius": certified, "attack_radius": attack, "ratio": attack / certified}
        return make_case(key, make_result(), **changes)

    first = [*(scaled(key, 1.0) for key in range(count)), make_failure(count)]
    first[0] = replace(first[0], radii=make_radii(document_of(first[0])))
    runs = [
        make_run(make_setup(), [CALL], first),
        make_run(make_setup(method="crown"), [CALL], [scaled(key, 0.8) for key in range(10)]),
    ]
    return make_report("Many signs", runs, ORIGIN)


def example_pictures(run: int, case: Case) -> Pictures | None:
    """The same pictures for every case with an answer."""
    document = case.document
    if document is None:
        return None
    image = _png(make_image())
    if document.attack is None or document.attack.witness is None:
        return Pictures(image, None, make_cam().astype(np.float32), None)
    maps = (make_cam().astype(np.float32), make_cam(0.6).astype(np.float32))
    return Pictures(image, _png(np.full((3, 48, 48), 0.5)), *maps)


def document_of(case: Case) -> VerifyDocument:
    assert case.document is not None
    return case.document


def _png(values: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.rint(255 * values.transpose(1, 2, 0)).astype(np.uint8)).save(target, "PNG")
    return target.getvalue()
