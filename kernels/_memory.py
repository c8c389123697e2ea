"""Keep freed memory for the next step, instead of giving it back to the system and faulting it in anew.

A training step frees what it allocated, and the next one allocates the same again. With glibc's defaults a step of a
4-layer, 128-wide model took 4,770 page faults, 13 of its 73 ms; with the two settings below, one fault. Arrays above
32 MB, which glibc maps one by one whatever its threshold says, are kept, too: GPT-2 124M at B4 T256 went from 6.4 to 5.5 s of
CPU time a step, BERT-base from 2.6 to 2.1, where a virtual machine makes first touches dear; peak memory grew by 0 to 4%.
SwiGLU's backward of 262,144 numbers, whose two results glibc gave back every time, took 630 us of two threads, and takes 74.
"""
import ctypes
import functools
import sys

from ._switch import switch

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4                # glibc's malloc.h
KEPT_AT_TOP = 1 << 30


@functools.cache
def keep_freed_memory():
    """Sets glibc up so for this process; True where that could be done. TINYGRAD_LLM_MALLOC=system leaves it alone."""
    if switch("TINYGRAD_LLM_MALLOC", "system") or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)        # musl has none
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, KEPT_AT_TOP))
