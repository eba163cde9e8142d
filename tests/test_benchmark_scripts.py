"""The scripts in ``benchmarks``: what can be checked without a clock. Those for a GPU are in test_gpu_paths.py."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.parametrize(
    ("code", "said", "reason"),
    [
        (-9, "", "killed by signal 9"),
        (1, "", "exit code 1"),
        (1, "Traceback\nMemoryError", "MemoryError"),
        (1, "Traceback\nuprnet.errors.WeightsError: no weights file", "no weights file"),
    ],
)
def test_why_a_measurement_failed_is_told(code: int, said: str, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import memory

    assert memory.reason_of(subprocess.CompletedProcess([], code, "", said)) == reason
