from __future__ import annotations

import pytest
from example_results import RESULTS

from corgi.results import VerifyResult


@pytest.fixture(params=list(RESULTS))
def result(request: pytest.FixtureRequest) -> VerifyResult:
    """Every way a verification can end."""
    return RESULTS[request.param]
