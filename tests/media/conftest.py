"""Clips with many tracks, and FFmpeg's programs: another version of libav that checks what is written."""

import json
import shutil
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

MILLISECOND = Fraction(1, 1000)


def program(name: str) -> str:
    """Find a program of FFmpeg; its absence is an error, since nothing else reads our files independently."""
    path = shutil.which(name)
    assert path, f"{name} is missing: install ffmpeg (Debian, Ubuntu: apt install ffmpeg)"
    return path


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., bytes]:
    """Return a function that runs ffmpeg and returns what it writes to standard output."""
    path = program("ffmpeg")

    def run(*arguments: str) -> bytes:
        return subprocess.run([path, "-v", "error", "-y", *arguments], capture_output=True, check=True).stdout

    return run


@pytest.fixture(scope="session")
def probe() -> Callable[..., Any]:
    """Return a function that asks ffprobe about a file."""
    path = program("ffprobe")

    def ask(file: Path, *what: str) -> Any:
        command = [path, "-v", "error", "-of", "json", *what, str(file)]
        return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)

    return ask


@pytest.fixture(scope="session")
def seen(ffmpeg: Callable[..., bytes]) -> Callable[..., np.ndarray]:
    """Return a function that gives the frames of a file as ffmpeg shows them, ``(N, H, W, C)``, uint8."""
    flags = "accurate_rnd+full_chroma_int+full_chroma_inp"

    def show(path: Path, shape: tuple[int, ...], pixel_format: str = "rgb24", *decoder: str) -> np.ndarray:
        output = ("-sws_flags", flags, "-f", "rawvideo", "-pix_fmt", pixel_format, "-")
        pixels = np.frombuffer(ffmpeg(*decoder, "-i", str(path), *output), np.uint8)
        return pixels.reshape(-1, *shape[:2], len(pixel_format.removesuffix("24")))

    return show


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000000020001e221bc330000"
    "000049454e44ae426082"
)
"""The smallest picture: one pixel."""


def tone(stream, length, pitch):
    """Encode a tone of ``length`` seconds."""
    samples = np.sin(np.arange(length * 48000) * (2 * np.pi * pitch / 48000)) * 0.5
    form = stream.codec_context.format
    wave = samples.astype(np.float32) if form.packed.name == "flt" else (samples * 32767).astype(np.int16)
    packets = []
    for first in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[None, first : first + 1024]), form.name, "mono")
        frame.sample_rate, frame.time_base, frame.pts = 48000, Fraction(1, 48000), first
        packets += stream.encode(frame)
    return packets + stream.encode(None)


@pytest.fixture
def film(tmp_path):
    """Make a Matroska file with two sounds, two subtitles, chapters, a font, a cover and metadata."""
    path, tick = tmp_path / "film.mkv", Fraction(1, 25)
    with av.open(str(path), "w") as container:
        container.metadata.update(title="A film", comment="kept")
        video = container.add_stream("libx264", rate=25, options={"mbtree": "0"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        video.codec_context.time_base = tick
        sounds = [container.add_stream(codec, rate=48000, layout="mono") for codec in ("aac", "flac")]
        texts = [container.add_mux_stream("subrip"), container.add_mux_stream("subrip")]
        for track, language in zip([*sounds, *texts], ("deu", "eng", "fra", "jpn"), strict=True):
            track.metadata["language"] = language
        sounds[1].metadata["title"] = "Commentary"
        sounds[1].disposition = av.stream.Disposition.comment.value
        texts[1].disposition = av.stream.Disposition.forced.value
        container.add_attachment("font.ttf", "application/x-truetype-font", b"not really a font")
        container.add_attachment("cover.png", "image/png", PNG)
        container.set_chapters(
            [
                {
                    "id": n,
                    "start": n * 500,
                    "end": n * 500 + 500,
                    "time_base": MILLISECOND,
                    "metadata": {"title": f"C{n}"},
                }
                for n in range(2)
            ]
        )
        container.start_encoding()
        for number in range(25):
            image = np.full((48, 64, 3), 60 + 4 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, tick
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for sound, pitch in zip(sounds, (440, 880), strict=True):
            container.mux(tone(sound, 1, pitch))
        for text, words in zip(texts, ("Bonjour", "Konnichiwa"), strict=True):
            for number in range(3):
                packet = av.Packet(f"{words} {number}".encode())
                packet.stream, packet.time_base = text, MILLISECOND
                packet.pts = packet.dts = 100 + 300 * number
                packet.duration = 250
                container.mux(packet)
    return path
