"""From bounds to certificates: decide one radius, search for the largest, re-check in float64."""
