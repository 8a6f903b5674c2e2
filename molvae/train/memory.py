"""Keep freed memory in the process while a model is trained on the CPU.

In: nothing. Out: whether the C library agreed.
"""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # numbers of glibc's malloc.h


def keep_memory() -> bool:
    """Tell glibc not to hand freed memory back to the system, for the rest of the process.

    A training step frees and takes again the same few hundred MB; by default glibc gives blocks above 32 MB back at
    once, and the system clears every page of them anew: 107,000 page faults a step, a tenth of its time. Values do not
    change. Without glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, 2**31 - 1))
