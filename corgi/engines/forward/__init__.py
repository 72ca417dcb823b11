"""Affine forms in a few parameters, carried forwards (DeepZ's zonotopes, with remainders apart)."""
