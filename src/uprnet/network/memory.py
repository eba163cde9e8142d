"""How much memory a frame takes, and how the work is cut so that it fits.

The estimate counts the tensors that are there at once at the worst moment, mostly within `FrameSynthesis` at the
finest level, and adds what is lost between them. Of the plans that fit, the one that computes least twice is taken.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import torch

from uprnet.errors import InvalidInputError
from uprnet.network.config import Engine
from uprnet.network.model import FLOW_STRIDE, encoded_levels
from uprnet.network.ops.cpu import num_threads
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS
from uprnet.network.striping import ENCODER_HALO, ESTIMATOR_SHARE, ROW_MULTIPLE, SYNTHESIS_HALO, Plan

GIB = 2**30
MIB = 2**20

#: Bytes of each unit that a text may end with; without the i they are decimal, as on the packages of memory.
_UNITS = {"": 1, "b": 1} | {
    letter + ending: base ** (power + 1)
    for power, letter in enumerate("kmgt")
    for ending, base in (("", 1024), ("ib", 1024), ("b", 1000))
}

#: Bytes of a number in the network.
_NUMBER = 4

#: What takes memory whatever the picture, in bytes: compiled operators, which are loaded when they are first used.
_FIXED = 60 * 2**20

#: What lies free between tensors, as a share of them, and with other engines than ours what they copy and keep;
#: measured at 640 x 480 to 4096 x 2304 with several plans (benchmarks/memory.py).
_LOST = {"numba": 0.3, "torch": 1.05, "onnxruntime": 2.0, "openvino": 2.5, "ncnn": 6.6}

#: Rows from which motion may reach a stripe, beyond those that convolutions see, as a share of the height; more motion
#: takes more.
_MOTION = 1 / 24

#: Rows that a thread of the engine `numba` holds twice between layers, at most; and rows that all of them hold
#: together, at most, as a share of those of a stripe.
_SCRATCH_ROWS, _SCRATCH_SHARE = 92, 1.3

#: Share of the free memory that is taken without being asked: other programs need some, too.
_SHARE_OF_FREE = 0.8

#: Share of the time of a frame that may be given for less memory without being asked.
_CHEAP = 0.075

#: Shares of the time of a frame that the synthesis and the encoding of both frames take (640 x 480, base).
_SYNTHESIS_TIME, _ENCODING_TIME = 0.65, 0.2


@dataclass(frozen=True)
class Work:
    """What is to be computed.

    Attributes:
        batch: Pictures at once.
        height: Height of the padded picture, in pixels.
        width: Width of the padded picture, in pixels.
        base_channels: Width of the network, see `uprnet.ModelConfig`.
        num_levels: Levels of the pyramid.
        skip_finest: Finest levels without motion estimation.
        engine: What runs the convolutions.
    """

    batch: int
    height: int
    width: int
    base_channels: int
    num_levels: int
    skip_finest: int
    engine: Engine = "numba"


def parse_memory(memory: str | int) -> int:
    """Return a number of bytes from text such as ``4GiB``, ``1.5 GB`` or ``800M``, or from the number itself.

    Raises:
        InvalidInputError: If it is neither, or not positive.

    Example:
        >>> parse_memory("4GiB"), parse_memory("4GB"), parse_memory(1000)
        (4294967296, 4000000000, 1000)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?(?:i?b)?)", str(memory).strip().lower())
    count = float(match[1]) * _UNITS[match[2]] if match and match[2] in _UNITS else 0
    if not 1 <= count < math.inf:
        raise InvalidInputError(f"memory must be a number of bytes or text such as 4GiB or 800MB, got {memory!r}")
    return int(count)


def peak_memory(work: Work, plan: Plan) -> int:
    """Estimate the bytes that a pair takes beyond the loaded network and the images themselves, at its peak."""
    c, threads = work.base_channels, num_threads()
    features, c2 = 3 + c + 2 * c / 4 + 4 * c / 16, 4 * c / 16  # numbers per pixel of a level
    pixels = work.batch * work.height * work.width
    kept = 0.0
    for index in reversed(encoded_levels(work.num_levels, work.skip_finest)):
        if index >= plan.kept_from:
            kept += 2 * features * pixels / 4**index
        else:
            kept += 2 * (3 + (c2 if index >= work.skip_finest else 0)) * pixels / 4**index
    is_fused = work.engine == "numba"  # needs no copies side by side
    rows = plan.rows(work.batch, work.height, work.width)
    across = work.batch * work.width
    seen = min(work.height, rows + sum(SYNTHESIS_HALO))
    motion = _MOTION * work.height
    reaching = min(work.height, seen + motion)
    # After two stages of the synthesis: both frames warped, coarse frame, images and flow, and the two results.
    moments = [((6 + 3.5 * c) * reaching + (13 + (3 if is_fused else 6) * c) * seen) * across]
    if plan.kept_from > 0 and rows < work.height:
        moments[0] += 2 * features * (2 * sum(SYNTHESIS_HALO) + motion) * across  # rows kept for the next stripe
    # While the second frame is encoded: its full-size features apart, and then beside the image.
    moments.append((c if is_fused else 3 * c) * pixels / 4**plan.kept_from)
    if work.skip_finest == 0:  # costs, both frames warped, context and flow, on a quarter grid
        numbers = (2 * NUM_DISPLACEMENTS + (16 if is_fused else 30) * c) / FLOW_STRIDE**2
        moments.append(numbers * min(work.height, ESTIMATOR_SHARE * rows) * across)
    # And the new frame; where nothing is cut, coarser ones of several times, too.
    peak = kept + max(moments) + (6 if plan == Plan() else 3) * pixels
    scratch = min(_SCRATCH_ROWS * threads, _SCRATCH_SHARE * seen * work.batch) * work.width * 2 * 2 * c
    return int(_FIXED + _NUMBER * ((1 + _LOST[work.engine]) * peak + (scratch if is_fused else 0)))


def choose_plan(work: Work, limit: int | None, device: torch.device | None = None) -> Plan:
    """Return the fastest plan whose peak fits.

    Args:
        work: What is to be computed.
        limit: Bytes that it may take. Without one, most of what is free may be taken, but on a CPU the work is cut all
            the same where that costs little time; if nothing fits, the plan that takes least is taken.
        device: Where it is computed; the CPU by default.

    Raises:
        InvalidInputError: If nothing fits into ``limit``.

    Example:
        >>> choose_plan(Work(1, 480, 640, 16, 4, 0), 8 * GIB)
        Plan(pixels=None, kept_from=0)
    """
    device = device or torch.device("cpu")
    plans = list(_plans(work))
    least = min(plans, key=lambda plan: peak_memory(work, plan))
    if limit is not None and peak_memory(work, least) > limit:
        raise InvalidInputError(
            f"memory must be at least {-(-peak_memory(work, least) // MIB)}MiB for padded frames of "
            f"{work.width} x {work.height}, got {limit / MIB:.4g}MiB; raise it, or take smaller frames or model small"
        )
    allowed = limit if limit is not None else _most_of_free(device)
    fitting = [plan for plan in plans if peak_memory(work, plan) <= allowed]
    if limit is None and device.type == "cpu":  # a GPU is faster the more it has to do at once
        cheap = [plan for plan in fitting if _extra_time(work, plan) <= _CHEAP]
        if cheap:
            return min(cheap, key=lambda plan: peak_memory(work, plan))
    return min(fitting, key=lambda plan: (_extra_time(work, plan), peak_memory(work, plan)), default=least)


def _plans(work: Work) -> list[Plan]:
    """Return the plans that differ: for stripes of all heights, each number of finest levels that are not kept."""
    heights = range(ROW_MULTIPLE, work.height, ROW_MULTIPLE)
    sizes = [None, *(work.batch * work.width * rows for rows in heights)]
    kept_from = [0, *(index + 1 for index in encoded_levels(work.num_levels, work.skip_finest))]
    return [Plan(size, level) for size in sizes for level in kept_from]


def _extra_time(work: Work, plan: Plan) -> float:
    """Estimate the time that a plan costs beyond that of the whole, as a share of it, in a video."""
    extra = 0.0
    for index in encoded_levels(work.num_levels, work.skip_finest):
        height = work.height >> index
        rows = plan.rows(work.batch, height, work.width >> index)
        seams = -(-height // rows) - 1
        extra += _SYNTHESIS_TIME * seams * sum(SYNTHESIS_HALO) / height / 4**index
        if index < plan.kept_from:
            extra += _ENCODING_TIME * (1 + seams * sum(ENCODER_HALO) / height) / 4**index
    return extra


def _most_of_free(device: torch.device) -> float:
    free = free_memory(device)
    return math.inf if free is None else _SHARE_OF_FREE * free


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that a device has free; None if it does not say."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # by torch, for new tensors
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type == "xpu" and hasattr(torch.xpu, "mem_get_info"):
        return int(torch.xpu.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    limits = [_memory_of_system(), _memory_of_container()]
    return min((limit for limit in limits if limit is not None), default=None)


def _memory_of_system() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):  # not Linux
        return None


def _memory_of_container() -> int | None:
    """Return what the container's limit leaves (cgroup v2); None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        statistics = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        # Pages of files count as used, but the system gives them up when memory is short.
        return max(0, int(limit) - int(used) + int(statistics.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None
