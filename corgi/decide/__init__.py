"""Exact decisions of single margins (theory 1.10)."""
