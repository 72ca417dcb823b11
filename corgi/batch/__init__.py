"""Many images, one store: what survives interruption and is never computed twice."""
