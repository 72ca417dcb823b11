"""Every kind of certificate on one image, side by side."""
