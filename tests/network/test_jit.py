"""Compiled kernels where nothing can be kept on disk."""

import numba.core.caching
import pytest

from uprnet.network.ops.jit import jit


def test_without_a_folder_to_keep_it_in_a_kernel_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])

    def double(number):
        return 2 * number

    with pytest.raises(RuntimeError, match="no locator"):
        numba.njit(cache=True)(double)
    assert jit()(double)(21) == 42
