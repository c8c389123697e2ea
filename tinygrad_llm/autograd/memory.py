"""Keep freed memory for the next step, instead of giving it back to the system and faulting it in anew.

A training step frees what it allocated, and the next one allocates the same again. With glibc's defaults a step of a
4-layer, 128-wide model took 4,770 page faults, 13 of its 73 ms; with the two thresholds below, one fault.
"""

import ctypes
import os
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
LARGEST_ON_HEAP = 32 << 20  # the most that glibc accepts; larger arrays are mapped and unmapped one by one, as before
KEPT_AT_TOP = 1 << 30


def keep_freed_memory() -> bool:
    """Sets glibc's thresholds for this process; True where that could be done. TINYGRAD_LLM_MALLOC=system leaves them alone."""
    if not sys.platform.startswith("linux") or os.environ.get("TINYGRAD_LLM_MALLOC") == "system":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, LARGEST_ON_HEAP) and mallopt(M_TRIM_THRESHOLD, KEPT_AT_TOP))
