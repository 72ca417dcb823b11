"""A whole report for programs: its figures, and the document of every image."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from corgi.reporting import wording
from corgi.reporting.summary import Comparison, Origin, Report, Run


class ReportDocument(BaseModel):
    """What `corgi report` writes as report.json. Radii are in the pixel scale; NaN cannot enter.

    In a run with a `change` its sizes stand where radii do, and documents are those of `corgi sweep`: version
    3 says so, in which alone there are such runs.
    """

    model_config = ConfigDict(
        frozen=True, protected_namespaces=(), allow_inf_nan=False, revalidate_instances="always"
    )

    schema_version: Literal["3"] = "3"
    kind: Literal["report"] = "report"
    title: str
    pixel_scale: str = wording.PIXEL_SCALE
    proof_kinds: dict[str, str] = dict(wording.PROOF_KINDS)
    origin: Origin
    runs: tuple[Run, ...]
    comparisons: tuple[Comparison, ...]


def report_document(report: Report) -> ReportDocument:
    """The document of a report.

    Raises:
        pydantic.ValidationError: a number of the report is not finite.
    """
    return ReportDocument(
        title=report.title, origin=report.origin, runs=report.runs, comparisons=report.comparisons
    )
