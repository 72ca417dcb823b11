"""Changes that people worry about, as families of images with a few parameters (family.py)."""
