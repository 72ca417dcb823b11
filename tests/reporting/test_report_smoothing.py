from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from corgi.reporting.smooth_picture import smooth_picture
from corgi.reporting.smoothing import guarantee, no_guarantee, smooth_document, smooth_text
from corgi.reporting.versions import installed_versions
from corgi.results import Claim, Sampling, SmoothResult, StatisticalCertificate, Status

SAMPLING = Sampling(
    "a map, its 2 largest", (2, 3), "Gaussian", 0.1, 0, 99, 12, "clopper-pearson", "bonferroni", 0.05, 0.05
)
OVERLAP = StatisticalCertificate(
    Claim.OVERLAP, Status.CERTIFIED, "", 0.123456, 2.0, 2, (4, 1), SAMPLING, overlap=1
)  # fmt: skip
CURVE = replace(OVERLAP, overlap=2, radius=0.0123456, curve=((2, 0.0123456), (1, 0.123456)))
NOTHING = replace(OVERLAP, status=Status.UNKNOWN, reason="too few samples", radius=0.0, overlap=None)
CLAIMS = {
    "at least 1 of the 2 largest pixels": OVERLAP,
    "all of the 2 largest pixels": replace(OVERLAP, overlap=2),
    "at most the ranks 2, 5": replace(OVERLAP, claim=Claim.RANK, overlap=None, ranks=(2, 5)),
    "each of 1 pixels by itself is in the top set (a map, its 2 largest) for more than half of all noise; "
    "each of 3 by itself is outside for more than half; 2 pixels abstain": replace(
        OVERLAP, claim=Claim.PIXELS, overlap=None, inside=(4,), outside=(0, 2, 3)
    ),
    "within l_inf distance 0.1234": replace(OVERLAP, claim=Claim.RENYI, order=float("inf")),
}


def result_of(certificate: StatisticalCertificate) -> SmoothResult:
    mean = np.array([[0.0, 0.5, 0.1], [0.2, 0.9, 0.3]])
    image = np.zeros((3, 2, 2), dtype=np.float32)
    return SmoothResult(
        Path("m.onnx"), "0", "i.png", image, 1, "cat", 1, mean, mean, certificate, 99, 99, 0.5
    )


def text_of(result: SmoothResult) -> str:
    console = Console(width=100, color_system=None)
    with console.capture() as capture:
        console.print(smooth_text(smooth_document(result)))
    return " ".join(capture.get().split())


@pytest.mark.parametrize("words", CLAIMS)
def test_a_claim_is_one_sentence_with_probability_and_radius(words: str) -> None:
    sentence = guarantee(CLAIMS[words])
    assert sentence is not None
    assert words in sentence
    assert sentence.startswith("With probability at least 0.95 over the noise drawn")
    assert "0.1234 " in sentence  # rounded down
    result = result_of(CLAIMS[words])
    assert sentence in text_of(result)
    assert smooth_document(result, installed_versions()).guarantee == sentence
    assert len(smooth_picture(result).axes) >= 5


def test_nothing_certified_is_said_as_such() -> None:
    assert guarantee(NOTHING) is None
    text = text_of(result_of(NOTHING))
    assert text.startswith("UNKNOWN class 1 (cat)")
    assert "Nothing is certified: too few samples." in text
    assert "With probability" not in text
    assert smooth_document(result_of(NOTHING), installed_versions()).certified_radius == 0


def test_the_curve_is_told_and_drawn() -> None:
    said = text_of(result_of(CURVE))
    assert "all 2 stay within 0.01234 (3.148/255) at least 1 of 2 stay within 0.1234 (31.48/255)" in said
    assert "All of this curve holds at once" in said
    document = smooth_document(result_of(CURVE), installed_versions())
    assert [(p.overlap, p.certified_radius) for p in document.curve] == list(CURVE.curve)
    assert "l_2 radius" in smooth_picture(result_of(CURVE)).axes[-1].get_xlabel()
    asked = replace(CURVE, status=Status.UNKNOWN, reason="not all", radius=0.0, overlap=None)
    said = text_of(result_of(asked))
    assert said.startswith("UNKNOWN")
    assert "at least 1 of 2 stay within 0.1234" in said
    assert "Compared:" in said
    long = replace(CURVE, k=99, curve=tuple((99 - i, 0.01 * (i + 1)) for i in range(99)))
    assert text_of(result_of(long)).count(" stay within") == 15
    assert "all 99 stay within 0.01 " in text_of(result_of(long))
    assert "at least 1 of 99 stay within 0.99 " in text_of(result_of(long))


def test_a_published_claim_is_never_a_guarantee() -> None:
    claimed = replace(NOTHING, claim=Claim.RENYI, claimed_radius=0.3, claimed_overlap=2)
    assert guarantee(claimed) is None
    document = smooth_document(result_of(claimed), installed_versions())
    said = "No guarantee: the published form claims an overlap of 2 of 2 up to l_2 distance"
    assert no_guarantee(document).startswith(said)
    assert (document.certified_radius, document.guarantee, document.claimed_radius) == (0, None, 0.3)


def test_an_interrupt_is_said() -> None:
    result = replace(result_of(OVERLAP), wanted=200)
    assert text_of(result).startswith("CERTIFIED, stopped early")
    assert "99 of 200" in text_of(result)


def test_a_rung_is_said() -> None:
    rung = replace(SAMPLING, samples=800, failure_share=0.0025, rung=3)
    result = replace(result_of(replace(OVERLAP, sampling=rung)), drawn=1000, wanted=1000)
    said = text_of(result)
    assert said.startswith("CERTIFIED class")
    assert "the first 800 of 1000" in said
    assert "0.0025 of it for this many samples" in said
    document = smooth_document(result, installed_versions())
    assert (document.samples, document.samples_drawn, document.rung) == (800, 1000, 3)
    assert (document.failure_probability, document.failure_share) == (0.05, 0.0025)
