"""Linear forms of a map against the map itself, number for number."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from corgi.decide.forms import map_forms, scaled_pairs


@dataclass(frozen=True)
class Asked:
    """As much of a network as forms read: a head of three filters, one of which the class does not read."""

    pixels: int = 5

    @property
    def head(self) -> Asked:
        return self

    @property
    def weight(self) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0, -0.7]], dtype=torch.float64)


@pytest.mark.parametrize(("up", "down"), [(0.3, 1.0), (1.0, 0.8), (0.1, 0.7), (1.0, 1.0)])
def test_scaled_pairs_in_full_precision(up: float, down: float) -> None:
    """A factor that float32 does not hold is taken as it is, of two pixels and of one against itself."""
    above, below = torch.tensor([0, 3, 4, 2]), torch.tensor([1, 3, 0, 2])
    forms = scaled_pairs(Asked(), 0, above, below, up, down)  # type: ignore[arg-type]
    assert forms.coefficient.dtype == forms.constant.dtype == torch.float64
    expected = torch.zeros(4, 3, 5, dtype=torch.float64)
    for row, (i, p) in enumerate(zip(above.tolist(), below.tolist(), strict=True)):
        for channel, weight in enumerate(Asked().weight[0].tolist()):
            if i == p:
                expected[row, channel, i] = (up - down) * weight
            else:
                expected[row, channel, i], expected[row, channel, p] = up * weight, -down * weight
    assert torch.equal(forms.matrix(15), expected.reshape(4, 15))
    # No element twice in one form.
    places = list(zip(forms.row.tolist(), forms.element.tolist(), strict=True))
    assert len(set(places)) == len(places)


def test_forms_of_a_map() -> None:
    row, pixel = torch.tensor([0, 0, 1]), torch.tensor([4, 1, 2])
    coefficient = torch.tensor([0.1, -0.2, 3.0], dtype=torch.float64)
    forms = map_forms(Asked(), 0, row, pixel, coefficient, torch.tensor([0.5, 0.0]).double())  # type: ignore[arg-type]
    values = torch.arange(15, dtype=torch.float64).reshape(3, 5) / 7
    cam = Asked().weight[0] @ values
    found = forms.matrix(15) @ values.flatten() + forms.constant
    expected = [0.5 + 0.1 * float(cam[4]) - 0.2 * float(cam[1]), 3 * float(cam[2])]
    assert found.tolist() == pytest.approx(expected)
