"""Bounding engines: sound bounds of the map over a ball. One engine a file, one contract for all."""
