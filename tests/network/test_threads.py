"""Who has the threads while frames are made: kernels that do not share them with torch's waiting ones."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch

from uprnet import Interpolator
from uprnet.network.ops import cpu
from uprnet.network.ops.cpu import num_threads, threads_of_our_own


@pytest.fixture(autouse=True)
def three_threads_that_spin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_kernels_keep_their_threads_and_torch_has_one():
    with threads_of_our_own():
        assert (num_threads(), torch.get_num_threads()) == (3, 1)
        with threads_of_our_own():
            assert (num_threads(), torch.get_num_threads()) == (3, 1)
        assert (num_threads(), torch.get_num_threads()) == (3, 1)
    assert (num_threads(), torch.get_num_threads()) == (3, 3)


def test_an_error_gives_torch_its_threads_back():
    with pytest.raises(MemoryError), threads_of_our_own():
        raise MemoryError
    assert (num_threads(), torch.get_num_threads()) == (3, 3)


def test_other_threads_of_python_notice_nothing():
    seen = []
    with threads_of_our_own():
        other = threading.Thread(target=lambda: seen.append((num_threads(), torch.get_num_threads())))
        other.start()
        other.join()
    assert seen == [(3, 3)]


def test_nothing_changes_where_waiting_threads_sleep(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    with threads_of_our_own():
        assert (num_threads(), torch.get_num_threads()) == (3, 3)


def test_nobody_works_on_once_the_caller_was_interrupted():
    """What is left would write to memory that the caller is about to free."""
    done = []

    def work(job: int) -> None:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.05)
        done.append(job)

    with pytest.raises(KeyboardInterrupt):
        cpu.share_out(work, range(100))
    seen = list(done)
    time.sleep(0.2)
    assert done == seen
    assert len(done) < 98


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_process_has_threads_of_its_own():
    script = (
        "import os, sys; from uprnet.network.ops import cpu; cpu.num_threads = lambda: 2\n"
        "cpu.share_out(lambda job: None, range(4))\n"
        "child = os.fork()\n"
        "if child == 0: cpu.share_out(lambda job: None, range(4)); os._exit(7)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", script], timeout=60).returncode == 7


@pytest.mark.parametrize(("engine", "expected"), [("numba", {(3, 1)}), ("torch", {(3, 3)})])
def test_frames_are_made_with_the_threads_where_the_engine_needs_them(
    monkeypatch: pytest.MonkeyPatch, engine: Any, expected: set[tuple[int, int]]
):
    seen = set()
    splat = cpu._splat_now

    def watched(source: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.add((num_threads(), torch.get_num_threads()))
        return splat(source, flow)

    monkeypatch.setattr(cpu, "_splat_now", watched)
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Interpolator("small", "cpu", engine=engine)(image, image)
    assert seen == expected
    assert torch.get_num_threads() == 3
