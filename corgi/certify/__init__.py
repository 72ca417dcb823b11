"""From bounds to certificates: decide one radius, search for the largest."""
