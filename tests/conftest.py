"""Clips that the tests make for themselves, a stand-in for the network, and what the reference computed."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch

# A shell lets what runs in its background ignore Ctrl-C, and so would all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

if not torch.cuda.is_available():
    # Triton's kernels run under its interpreter then, which must be said before anything imports Triton.
    os.environ.setdefault("TRITON_INTERPRET", "1")


def moving_square(index: int, height: int, width: int, is_deep: bool = False) -> np.ndarray:
    """Draw frame ``index``: a grey-blue gradient and a red square that moves two pixels a frame, ``(H, W, 3)``."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([x * 180 // width, y * 180 // height, np.full_like(x, 90)], axis=-1)
    left = (2 * index) % max(width - 8, 1)
    image[height // 3 : height // 3 + 8, left : left + 8] = (200, 40, 40)
    return (image * 257).astype(np.uint16) if is_deep else image.astype(np.uint8)


class Blend:
    """Mix two images; stands for the network, and remembers what was asked."""

    def __init__(self):
        self.asked = []

    def between(self, img0, img1, times):
        assert all(0 <= t <= 1 for t in times)
        assert img0.shape == img1.shape
        assert img0.dtype == img1.dtype
        self.asked.append((id(img0), id(img1), tuple(times)))
        if img0.dtype.kind == "f":
            assert img0.dtype == np.float32
            assert min(img0.min(), img1.min()) >= 0
            assert max(img0.max(), img1.max()) <= 1
            return [img0 * np.float32(1 - t) + img1 * np.float32(t) for t in times]
        return [np.rint(img0 * (1 - t) + img1 * t).astype(img0.dtype) for t in times]


@pytest.fixture
def blend() -> Blend:
    return Blend()


@pytest.fixture(scope="session")
def golden_metrics():
    """Two batches of images, and what the reference's metrics and losses say of them."""
    folder = Path(__file__).parent / "data" / "golden"
    arrays = np.load(folder / "metrics.npz")
    values = json.loads((folder / "metrics.json").read_text())
    return torch.from_numpy(arrays["x"]), torch.from_numpy(arrays["y"]), values


@pytest.fixture
def make_clip(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that encodes a clip with libav alone and returns its path.

    It takes the name, the stamps of the frames in ticks, the tick, and what is special about the clip.
    """

    def make(
        name: str = "clip.mp4",
        stamps: "list[int] | range" = range(12),
        tick: Fraction = Fraction(1, 30),
        *,
        height: int = 48,
        width: int = 64,
        codec: str = "libx264",
        pixel_format: str = "yuv420p",
        options: dict[str, str] | None = None,
        audio: str | None = None,
        audio_start: Fraction = Fraction(0),
        rotation: int = 0,
        colour: tuple[int, int, int, int] = (6, 6, 6, 1),
        aspect: Fraction = Fraction(1),
    ) -> Path:
        path = tmp_path / name
        step = min((b - a for a, b in pairwise(stamps)), default=1)
        with av.open(str(path), "w") as container:
            if codec == "libx264":
                options = {"mbtree": "0", **(options or {})}  # x264's output varies from run to run with it
            video = container.add_stream(codec, rate=1 / (tick * step), options=options or {})
            video.width, video.height, video.pix_fmt = width, height, pixel_format
            video.codec_context.time_base = tick
            video.time_base = tick
            context = video.codec_context
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = colour
            context.sample_aspect_ratio = aspect
            if rotation:
                video.set_display_rotation(rotation)
            sound = container.add_stream(audio, rate=48000, layout="mono") if audio else None
            for index, stamp in enumerate(stamps):
                is_deep = "10" in pixel_format
                image = moving_square(index, height, width, is_deep)
                frame = av.VideoFrame.from_ndarray(image, "rgb48le" if is_deep else "rgb24")
                frame = frame.reformat(format=pixel_format, dst_colorspace=5, dst_color_range=colour[3])
                frame.pts, frame.time_base = stamp, tick
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
            if sound is not None:
                length = float((stamps[-1] + step - stamps[0]) * tick)
                encode_tone(container, sound, length, audio_start)
        return path

    return make


@pytest.fixture
def make_sound(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a file with sound alone."""

    def make(name: str) -> Path:
        with av.open(str(tmp_path / name), "w") as container:
            encode_tone(container, container.add_stream("aac", rate=48000, layout="mono"), 0.5, Fraction(0))
        return tmp_path / name

    return make


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Return a context manager within which no file can grow beyond some bytes, as on a full disk."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


def encode_tone(container, stream, seconds: float, start: Fraction) -> None:
    """Add a 440 Hz tone of ``seconds`` to an audio stream of one channel at 48 kHz."""
    size = stream.codec_context.frame_size or 1024
    samples = np.sin(np.arange(int(seconds * 48000)) * (2 * np.pi * 440 / 48000)).astype(np.float32)[None] * 0.5
    resampler = av.AudioResampler(stream.codec_context.format, "mono", 48000)
    for first in range(0, samples.shape[1], size):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[:, first : first + size]), "fltp", "mono")
        frame.sample_rate, frame.time_base = 48000, Fraction(1, 48000)
        frame.pts = first + int(start * 48000)
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave OpenVINO to `test_openvino_apart`, which runs its tests in a process of its own."""
    if "UPRNET_TEST_OPENVINO" in os.environ:
        return
    apart = [item for item in items if "[openvino" in item.name or "-openvino" in item.name]
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if item not in apart]
