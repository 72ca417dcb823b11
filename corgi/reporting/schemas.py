"""The published documents and their JSON Schemas: docs/schema, `corgi schema`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from corgi.reporting.bundle import ReportDocument
from corgi.reporting.comparison import CompareDocument
from corgi.reporting.document import (
    AttackDocument,
    CamDocument,
    CurveDocument,
    InspectDocument,
    PropertiesDocument,
    RadiiDocument,
    VerifyDocument,
)
from corgi.reporting.smoothing import SmoothDocument
from corgi.reporting.sticker import StickerDocument
from corgi.reporting.sweep import SweepDocument

DOCUMENTS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "verify": VerifyDocument,
        "properties": PropertiesDocument,
        "cam": CamDocument,
        "attack": AttackDocument,
        "inspect": InspectDocument,
        "radii": RadiiDocument,
        "curve": CurveDocument,
        "sticker": StickerDocument,
        "compare": CompareDocument,
        "smooth": SmoothDocument,
        "sweep": SweepDocument,
        "report": ReportDocument,
    }
)
"""The published documents by the subcommand that writes them; `properties` is of `verify`, of several."""


def version_of(kind: str) -> str:
    """The `schema_version` that a document of `DOCUMENTS` is written with."""
    return str(DOCUMENTS[kind].model_fields["schema_version"].default)


def json_schema(kind: str) -> str:
    """The JSON Schema (draft 2020-12) of a document of `DOCUMENTS`, with a final newline."""
    schema: dict[str, Any] = DOCUMENTS[kind].model_json_schema(mode="serialization")
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:corgi:schema:{kind}-{version_of(kind)}",
    }
    return json.dumps(head | schema, indent=2) + "\n"
