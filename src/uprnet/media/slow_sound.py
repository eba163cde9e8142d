"""Sound of slower time: stretched with its pitch kept (libav's atempo), and encoded again.

Convention:
    A sound that lasts from a to b in the source lasts from ``output_time(a)`` to ``output_time(b)``, to the sample:
    what atempo gives too little at the end is filled with silence, what it gives too much is cut off.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import av
import av.filter
import numpy as np
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from uprnet.media.video import open_container

if TYPE_CHECKING:
    from av.container import OutputContainer

    from uprnet.media.tracks import TrackPlan

TEMPO_STEP = 2
"""Largest change of tempo in one atempo filter: it takes 0.5 and more, and skips sound above 2 (libav's manual)."""

GAP = "0.05"
"""Seconds of a gap or an overlap between packets from which on silence is filled in, or sound cut off."""

BIT_RATE, MOST_BIT_RATE = 96_000, 256_000
"""Bits per second and channel where the source does not say, and the most that every encoder takes."""

WINDOWS_PER_SECOND = 24
"""atempo shifts pieces of this length, rounded up to a power of two (libav's af_atempo.c)."""

FRAME_SIZE = 1024
"""Samples that are encoded at a time where the encoder does not mind."""


def add_slow_track(output: OutputContainer, encoder: str, source: AudioStream) -> AudioStream:
    """Add a track for the slowed sound of ``source``: the same channels, and if possible the same rate and samples.

    Raises:
        ValueError: If the container cannot hold it.
    """
    codec, sound = av.Codec(encoder, "w"), source.codec_context
    rates = codec.audio_rates or [sound.sample_rate]
    rate = min((rate for rate in rates if rate >= sound.sample_rate), default=max(rates))
    target = cast(AudioStream, output.add_stream(encoder, rate=rate))
    context = target.codec_context
    context.layout = sound.layout if sound.layout.name else "mono" if sound.channels == 1 else "stereo"
    formats = sorted(codec.audio_formats or [sound.format], key=lambda form: form.bytes)
    wanted = sound.format.bytes if sound.format else 0
    context.format = next((form for form in formats if form.bytes >= wanted), formats[-1])
    context.time_base = Fraction(1, rate)
    bits = source.codec_context.bit_rate or BIT_RATE * sound.channels
    context.bit_rate = min(bits, MOST_BIT_RATE * sound.channels)
    return target


def slow_packets(
    source: Path, index: int, target: AudioStream, plan: TrackPlan, origin: Fraction
) -> Iterator[tuple[Fraction, Any]]:
    """Yield the packets of one track, slowed, with their times in the output.

    Args:
        source: File with the sound.
        index: Number of its track.
        target: Track of the output, from `add_slow_track`.
        plan: Section and speed.
        origin: Time of the first output frame, in seconds.
    """
    context = target.codec_context
    rate, fifo = context.sample_rate, AudioFifo()
    begin, end, written = Fraction(0), Fraction(0), 0
    graph: av.filter.Graph | None = None

    def encode(samples: int) -> Iterator[tuple[Fraction, Any]]:
        nonlocal written
        frame = fifo.read(samples)
        if frame is None:
            return
        frame.pts = round(plan.output_time(begin, origin) * rate) + written
        frame.time_base = Fraction(1, rate)
        written += frame.samples
        for packet in target.encode(frame):
            yield (packet.dts or 0) * packet.time_base, packet

    for frame, time in _sound(source, index, plan):
        if graph is None:
            begin, graph = time, _stretcher(frame, context, plan.slow)
            if early := _early(frame.sample_rate, rate, plan.slow):
                fifo.write(_silence(context, early))
        end = time + Fraction(frame.samples, frame.sample_rate)
        graph.push(frame)
        _drain(graph, fifo)
        size = context.frame_size or FRAME_SIZE
        while min(fifo.samples, _length(begin, end, plan, rate) - written) >= size:
            yield from encode(size)
    if graph is None:
        return
    graph.push(None)
    _drain(graph, fifo)
    missing = _length(begin, end, plan, rate) - written - fifo.samples
    if missing > 0:
        fifo.write(_silence(context, missing))
    size = context.frame_size or FRAME_SIZE
    while (left := _length(begin, end, plan, rate) - written) > 0:
        yield from encode(min(size, left))
    for packet in target.encode(None):
        yield (packet.dts or 0) * packet.time_base, packet


def _length(begin: Fraction, end: Fraction, plan: TrackPlan, rate: int) -> int:
    """Give the number of samples of the sound between two source times, slowed."""
    return round((end - begin) * plan.slow * rate)


def _sound(source: Path, index: int, plan: TrackPlan) -> Iterator[tuple[AudioFrame, Fraction]]:
    """Yield the decoded frames within the section, with their source times."""
    with open_container(source) as container:
        splices = plan.follow_splices()
        for packet in container.demux(container.streams[index]):
            if packet.pts is not None:
                shift = splices.shift(packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base)
                packet.pts += round(shift / packet.time_base)
            try:
                frames = cast("list[AudioFrame]", packet.decode())
            except av.FFmpegError:
                continue  # a damaged packet: the gap is filled with silence
            for frame in frames:
                if frame.pts is None or frame.time_base is None:
                    continue
                time = frame.pts * frame.time_base
                if plan.end is not None and time >= plan.end:
                    return
                if plan.start is None or time >= plan.start:
                    yield frame, time


def _steps(slow: Fraction) -> tuple[int, float]:
    """Give the number of atempo filters, and the tempo of each."""
    steps = max(1, math.ceil(abs(math.log(slow, TEMPO_STEP))))
    return steps, float(1 / slow) ** (1 / steps)


def _early(source_rate: int, rate: int, slow: Fraction) -> int:
    """Give the samples of the output by which slowed sound comes too early.

    Each filter repeats the ends of its pieces in front, on average ``1 - tempo`` of a piece too early (measured, for
    tempos from 0.5 to 1), and the filters after it stretch that.
    """
    steps, tempo = _steps(slow)
    piece = 1 << (source_rate // WINDOWS_PER_SECOND - 1).bit_length()
    seconds = sum(piece * max(0, 1 - tempo) / tempo**step for step in range(steps)) / source_rate
    return round(seconds * rate)


def _stretcher(frame: AudioFrame, context: Any, slow: Fraction) -> av.filter.Graph:
    """Make the filters: gaps filled, tempo changed in steps that atempo takes, samples as the encoder wants them."""
    steps, tempo = _steps(slow)
    form = f"sample_fmts={context.format.name}:sample_rates={context.sample_rate}:channel_layouts={context.layout.name}"
    graph = av.filter.Graph()
    nodes = [
        graph.add_abuffer(
            sample_rate=frame.sample_rate, format=frame.format, layout=frame.layout, time_base=frame.time_base
        ),
        graph.add("aresample", f"async=1:min_hard_comp={GAP}"),
        *(graph.add("atempo", f"{tempo:.15f}") for _ in range(steps)),
        graph.add("aformat", form),
        graph.add("abuffersink"),
    ]
    graph.link_nodes(*nodes).configure()
    return graph


def _drain(graph: av.filter.Graph, fifo: AudioFifo) -> None:
    while True:
        try:
            frame = cast(AudioFrame, graph.pull())
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        frame.pts = None  # samples are counted instead
        fifo.write(frame)


def _silence(context: Any, samples: int) -> AudioFrame:
    form = context.format
    shape = (context.channels, samples) if form.is_planar else (1, samples * context.channels)
    zeros = np.zeros(
        shape,
        {"flt": np.float32, "dbl": np.float64, "s16": np.int16, "s32": np.int32, "u8": np.uint8}[form.packed.name],
    )
    frame = AudioFrame.from_ndarray(zeros + (128 if form.packed.name == "u8" else 0), form.name, context.layout.name)
    frame.sample_rate = context.sample_rate
    return frame
