"""How memory is kept by processes that are corgi's own."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Names of glibc's malloc.h."""


def keep_freed_memory() -> None:
    """Let glibc reuse large blocks instead of giving each back to the system.

    Bounds of a deep network make and free thousands of arrays of some megabytes; fetched anew, they cost a
    third of the time as page faults (docs/results.md). Other C libraries are left as they are.
    """
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    library.mallopt(_M_MMAP_MAX, 0)
    library.mallopt(_M_TRIM_THRESHOLD, -1)
