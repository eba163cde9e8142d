"""Make the C library keep the memory that tensors free, instead of handing it back to the system.

A frame's features are tens of megabytes each. By default glibc maps such blocks anew for every tensor, and the system
clears them page by page: measured on two cores, that is a sixth of the time of a frame (640 x 480, base), and up to two
thirds of the time of a training step (small, eight crops of 128 x 128).
"""

from __future__ import annotations

import ctypes
import sys

# Parameters of mallopt(3), from <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_MAX = -4

#: Free memory, in bytes, at the top of the heap above which glibc gives it back to the system.
_KEEP_BYTES = 2**31 - 1

#: Bytes by which the heap grows at least.
_GROW_BYTES = 256 * 2**20


def reuse_freed_memory() -> bool:
    """Tell glibc to serve large blocks from memory that this process already has; return whether that worked.

    The setting holds for the whole process. Elsewhere than on Linux with glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: _KEEP_BYTES, _M_TOP_PAD: _GROW_BYTES}
    return all(mallopt(name, value) for name, value in settings.items())
