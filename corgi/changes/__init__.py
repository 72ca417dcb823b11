"""Changes that people worry about, as sets of images: clip(x + A t, 0, 1), t in a box (family.py)."""
