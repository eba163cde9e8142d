"""How much memory a plan takes, and which plan is taken."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from uprnet import Interpolator, InvalidInputError
from uprnet.network import memory
from uprnet.network.memory import GIB, Work, choose_plan, free_memory, parse_memory, peak_memory
from uprnet.network.striping import Plan

VGA = Work(1, 480, 640, base_channels=16, num_levels=4, skip_finest=0)
UHD = Work(1, 2304, 4096, base_channels=16, num_levels=7, skip_finest=2)
UHD8 = Work(1, 4608, 7680, base_channels=16, num_levels=8, skip_finest=3)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GiB", 4 * 2**30),
        ("1.5 GB", 1_500_000_000),
        ("800m", 800 * 2**20),
        ("16kib", 16384),
        ("512", 512),
        (123456, 123456),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes_are_read(text: str | int, count: int):
    assert parse_memory(text) == count


@pytest.mark.parametrize("text", ["", "much", "-1GiB", "4XB", "GiB", "0", 0, -5, "1e9", "4 Gi B"])
def test_what_is_no_size_is_refused(text: str | int):
    with pytest.raises(InvalidInputError, match="memory must be a number of bytes or text such as 4GiB") as caught:
        parse_memory(text)
    assert "\n" not in str(caught.value)


def test_smaller_stripes_and_fewer_kept_levels_take_less():
    heights = [peak_memory(UHD8, Plan(UHD8.width * rows)) for rows in (2048, 1024, 512)]
    kept = [peak_memory(UHD8, Plan(UHD8.width * 512, level)) for level in (0, 1, 4)]
    for sizes in (heights, kept):
        assert sizes == sorted(sizes, reverse=True)
        assert len(set(sizes)) == len(sizes)
    assert peak_memory(UHD8, Plan()) > heights[0]


def test_the_whole_is_taken_where_it_fits():
    for work in (VGA, UHD):
        assert choose_plan(work, 1000 * GIB) == Plan()
        assert choose_plan(work, peak_memory(work, Plan())) == Plan()


@pytest.mark.parametrize(
    "work", [UHD, UHD8, dataclasses.replace(UHD8, skip_finest=0), dataclasses.replace(UHD, batch=2)]
)
def test_a_plan_fits_its_limit_and_less_memory_never_costs_less_time(work: Work):
    before = 0.0
    for limit in (64, 24, 16, 12, 8):
        plan = choose_plan(work, limit * GIB)
        assert peak_memory(work, plan) <= limit * GIB
        extra = memory._extra_time(work, plan)
        assert extra >= before
        before = extra


def test_8k_fits_into_8_gib():
    plan = choose_plan(UHD8, 8 * GIB)
    assert plan.rows(1, UHD8.height, UHD8.width) >= 256


def test_too_little_is_refused_in_one_line():
    with pytest.raises(InvalidInputError, match=r"at least \d+MiB for .* 7680 x 4608, got 102.4MiB") as e:
        choose_plan(UHD8, GIB // 10)
    assert "\n" not in str(e.value)
    enough = str(e.value).split("at least ")[1].split(" ")[0]
    choose_plan(UHD8, parse_memory(enough))


def test_without_a_limit_free_memory_is_the_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda _: 10 * GIB)
    assert peak_memory(UHD8, choose_plan(UHD8, None)) <= 8 * GIB
    monkeypatch.setattr(memory, "free_memory", lambda _: 1)  # nothing fits: the plan that takes least
    least = choose_plan(UHD8, None)
    assert peak_memory(UHD8, least) < peak_memory(UHD8, Plan(16 * UHD8.width))
    monkeypatch.setattr(memory, "free_memory", lambda _: None)  # a system that does not say
    assert memory._extra_time(UHD8, choose_plan(UHD8, None)) <= memory._CHEAP


def test_small_pictures_are_never_cut_without_need():
    small = Work(1, 256, 256, base_channels=16, num_levels=3, skip_finest=0)
    assert choose_plan(small, None) == Plan()


def test_a_gpu_works_on_the_whole_where_it_fits(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "free_memory", lambda _: 40 * GIB)
    assert choose_plan(UHD, None, torch.device("cuda")) == Plan()
    assert choose_plan(UHD, None, torch.device("cpu")) != Plan()


def test_free_memory_of_this_machine():
    free = free_memory(torch.device("cpu"))
    assert free is None or 2**20 < free < 2**50
    assert free_memory(torch.device("meta")) is None


def test_the_limit_decides_the_plan_of_an_interpolator():
    images = (np.zeros((512, 64, 3), np.uint8), np.full((512, 64, 3), 200, np.uint8))
    work = Work(1, 512, 64, base_channels=8, num_levels=4, skip_finest=0)
    limit = peak_memory(work, Plan()) - 1
    cut, whole = Interpolator("small", "cpu", memory=limit), Interpolator("small", "cpu", memory="1GiB")
    assert np.abs(cut(*images).astype(int) - whole(*images)).max() <= 1  # rounding to 8 bits
    assert cut._plans[work] != Plan()
    assert whole._plans[work] == Plan()
    with pytest.raises(InvalidInputError, match="memory must be at least"):
        Interpolator("small", "cpu", memory="1MiB")(*images)
    with pytest.raises(InvalidInputError, match="memory must be a number"):
        Interpolator("small", "cpu", memory="lots")


#: Makes a frame of base and prints by how many bytes the peak of the process has grown since the network was loaded.
PEAK = """
import sys, numpy as np
from pathlib import Path
import uprnet.interpolate
from uprnet.network.striping import Plan

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

uprnet.interpolate.choose_plan = lambda *_: Plan(int(sys.argv[1]) * 640 or None, int(sys.argv[2]))
interpolator = uprnet.interpolate.Interpolator("base", "cpu", engine="numba")
picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
moved = np.roll(picture, 9, axis=0)
before = peak()
interpolator(picture, moved)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("rows", "kept_from"), [(0, 0), (240, 0), (96, 1)])
def test_a_frame_takes_no_more_than_estimated(rows: int, kept_from: int):
    """The whole frame also takes at most 45 % of the reference's 0.8 GiB."""
    command = [sys.executable, "-c", PEAK, str(rows), str(kept_from)]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    estimate = peak_memory(VGA, Plan(rows * 640 or None, kept_from))
    assert 0.6 * estimate < int(run.stdout) < estimate
    assert int(run.stdout) < 0.45 * 0.8 * GIB


def test_the_cpu_gives_little_time_for_less_memory(monkeypatch: pytest.MonkeyPatch):
    """By an estimate that is a tenth above what is measured."""
    monkeypatch.setattr(memory, "free_memory", lambda _: 64 * GIB)
    monkeypatch.setattr(memory, "num_threads", lambda: 2)
    assert choose_plan(VGA, None) == Plan()  # a seam would be dear in so few rows
    for work, reference in ((dataclasses.replace(VGA, height=1152, width=1920, num_levels=6), 3.3), (UHD, 13.1)):
        plan = choose_plan(work, None)
        assert memory._extra_time(work, plan) <= 0.075
        assert peak_memory(work, plan) <= 0.5 * reference * GIB
