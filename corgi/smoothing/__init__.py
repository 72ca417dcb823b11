"""Randomized smoothing of maps: noise, sampling, confidence and the statistical certificates they give."""
