"""Sound through whole videos: sample for sample at its time when copied, and stretched with its pitch kept."""

from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.pipeline import interpolate_video
from uprnet.pipeline.options import SoundOptions

RATE = 48000


@pytest.fixture
def listen(ffmpeg):
    """Return a function that decodes a sound with ffmpeg, from time 0 on: what the file says is heard when."""

    def decode(path):
        sound = (
            "-map",
            "0:a:0",
            "-af",
            "aresample=async=1:first_pts=0",
            "-ac",
            "1",
            "-ar",
            str(RATE),
            "-f",
            "f32le",
            "-",
        )
        return np.frombuffer(ffmpeg("-copyts", "-i", str(path), *sound), np.float32)

    return decode


@pytest.fixture
def make_music(tmp_path):
    """Return a function that makes a clip of two seconds with noise, and a tone between 0.5 and 1 s."""

    def make(name, audio, video="libx264", start=0):
        path = tmp_path / name
        noise = np.random.default_rng(0).normal(0, 0.02, 2 * RATE)
        noise[RATE // 2 : RATE] += 0.5 * np.sin(np.arange(RATE // 2) * (2 * np.pi * 1000 / RATE))
        with av.open(str(path), "w") as container:
            picture = container.add_stream(video, rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuv420p"
            picture.codec_context.time_base = Fraction(1, 25)
            sound = container.add_stream(audio, rate=RATE, layout="mono")
            container.start_encoding()
            for number in range(50):
                image = np.full((48, 64, 3), number * 4, np.uint8)
                frame = av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, 25)
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
            for first in range(0, len(noise), 1024):
                samples = np.ascontiguousarray(noise[None, first : first + 1024].astype(np.float32))
                frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
                frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), first + start
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        return path

    return make


def shift_between(first, second):
    """Give the samples by which the second sound comes later, by cross-correlation."""
    size = 1 << (len(first) + len(second)).bit_length()
    match = np.fft.irfft(np.fft.rfft(first, size).conj() * np.fft.rfft(second, size), size)
    best = int(np.argmax(match))
    return best - size if best > size // 2 else best


@pytest.mark.parametrize(
    ("name", "audio", "output"),
    [
        ("s.mp4", "aac", "o.mp4"),
        ("s.mp4", "aac", "o.mkv"),  # MP4 tells of the encoder's silence by an edit list, Matroska by a delay
        ("s.mkv", "aac", "o.mp4"),
        ("s.mp4", "aac", "o.mov"),
        ("s.mp4", "libmp3lame", "o.mkv"),
        ("s.webm", "libopus", "o.webm"),
        ("s.webm", "libopus", "o.mp4"),
        ("s.mkv", "flac", "o.mp4"),
    ],
)
@pytest.mark.parametrize("start", [0, 12345])
def test_copied_sound_is_heard_at_the_same_time(make_music, tmp_path, listen, probe, name, audio, output, start, blend):
    source = make_music(name, audio, "libvpx-vp9" if name.endswith("webm") else "libx264", start)
    interpolate_video(source, tmp_path / output, interpolator=blend)
    assert abs(shift_between(listen(source), listen(tmp_path / output))) <= RATE // 1000
    first = [
        float(probe(path, "-select_streams", "v:0", "-show_streams")["streams"][0]["start_time"])
        for path in (source, tmp_path / output)
    ]
    assert abs(first[0] - first[1]) <= 0.001


@pytest.mark.parametrize("slow", ["2", "5", "5/2", "2/3"])
@pytest.mark.parametrize(("name", "audio", "output"), [("s.mp4", "aac", "o.mp4"), ("s.mkv", "flac", "o.mkv")])
def test_slowed_sound_keeps_pitch_and_fits(make_music, tmp_path, listen, name, audio, output, slow, blend):
    source, factor = make_music(name, audio), Fraction(slow)
    interpolate_video(source, tmp_path / output, slow=slow, sound=SoundOptions(slow_audio=True), interpolator=blend)
    before, after = listen(source), listen(tmp_path / output)
    assert abs(len(after) - len(before) * factor) <= 1024
    loud = np.abs(after) > 0.25
    begin, end = np.flatnonzero(loud)[[0, -1]] / RATE
    # The edges are smeared by the pieces that are repeated; the tone as a whole lies where it should.
    assert (begin + end) / 2 == pytest.approx(0.75 * factor, abs=0.02)
    assert end - begin == pytest.approx(0.5 * factor, abs=0.03 * factor)
    middle = after[int(0.6 * factor * RATE) : int(0.9 * factor * RATE)]
    strongest = np.argmax(np.abs(np.fft.rfft(middle * np.hanning(len(middle))))) * RATE / len(middle)
    assert strongest == pytest.approx(1000, rel=0.01)


def test_slow_motion_is_silent_unless_asked_for(make_music, tmp_path, probe, blend):
    summary = interpolate_video(make_music("s.mp4", "aac"), tmp_path / "o.mp4", slow=2, interpolator=blend)
    assert any("time runs slower; --slow-audio stretches it" in text for text in summary.warnings)
    assert [stream["codec_type"] for stream in probe(tmp_path / "o.mp4", "-show_streams")["streams"]] == ["video"]


def test_recordings_that_were_joined_go_on(make_music, tmp_path, probe, listen, blend):
    """Two transport streams, one after the other: the clock starts again in the middle."""
    for number in range(2):
        make_music(f"{number}.ts", "mp2").rename(tmp_path / f"{number}")
    joined = tmp_path / "joined.ts"
    joined.write_bytes((tmp_path / "0").read_bytes() + (tmp_path / "1").read_bytes())
    summary = interpolate_video(joined, tmp_path / "o.mkv", interpolator=blend)
    assert summary.frames_written == 200
    assert summary.duration == 4
    sound = listen(tmp_path / "o.mkv")
    start = float(probe(tmp_path / "o.mkv", "-select_streams", "v:0", "-show_streams")["streams"][0]["start_time"])
    edges = np.flatnonzero(np.diff((np.abs(sound) > 0.3).astype(int)) == 1) / RATE - start
    tones = [edges[0], edges[edges > edges[0] + 1][0]]
    assert tones == pytest.approx([0.5, 2.5], abs=0.04)
