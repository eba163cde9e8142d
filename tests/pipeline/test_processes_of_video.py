"""Whole processes: killed at any moment, asked to end, and in the middle of a pipe."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from uprnet.media.video import VideoReader

WORKER = Path(__file__).parent / "worker.py"


def content(output):
    if output.is_dir():
        return {path.name: path.read_bytes() for path in sorted(output.iterdir())}
    return output.read_bytes()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def killed(source, output, kills, chance):
    """Work on ``output`` until it is there, in processes that are killed; return how many were."""
    count, side = 0, output.with_name(f".{output.name}.uprnet")
    while not output.exists() or side.exists():
        with subprocess.Popen([sys.executable, str(WORKER), str(source), str(output)]) as process:
            if count == kills:
                assert process.wait(60) == 0
                continue
            while process.poll() is None and not side.exists():
                time.sleep(0.002)
            time.sleep(chance.uniform(0, 0.3))
            count += process.poll() is None
            process.kill()
    return count


@pytest.mark.parametrize(
    ("name", "kills"),
    [("o.mp4", 2), pytest.param("o.mkv", 20, marks=pytest.mark.slow), pytest.param("o", 20, marks=pytest.mark.slow)],
)
def test_killed_at_random_moments(make_clip, tmp_path, name, kills):
    source = make_clip("s.mp4", range(120), audio="aac")
    (tmp_path / "whole").mkdir()
    killed(source, tmp_path / "whole" / name, 0, random.Random(0))
    chance, seen, rounds = random.Random(1), 0, 0
    while seen < kills:
        rounds += 1
        output = tmp_path / str(rounds) / name
        output.parent.mkdir()
        seen += killed(source, output, kills - seen, chance)
        assert content(output) == content(tmp_path / "whole" / name)
        assert [path.name for path in output.parent.iterdir()] == [name]


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_asked_to_end_and_begun_again(make_clip, tmp_path, sent, code):
    source = make_clip("s.mp4", range(400), height=32, width=48)
    command = [sys.executable, "-m", "uprnet", "video", str(source), "-o", "o.mp4", "--model", "small"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path)
    wait_for(lambda: (tmp_path / ".o.mp4.uprnet" / "00000000.segment").exists() or process.poll() is not None)
    process.send_signal(sent)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"kept in .o.mp4.uprnet, and the same command goes on from there" in error
    assert b"Traceback" not in error
    assert not (tmp_path / "o.mp4").exists()
    done = subprocess.run([*command, "--report", "r.json"], capture_output=True, cwd=tmp_path, check=True)
    assert done.stdout.strip() == b"o.mp4"
    assert json.loads((tmp_path / "r.json").read_text())["videos"][0]["kept"] >= 120
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "r.json", "s.mp4"]


def test_in_the_middle_of_a_pipe(make_clip, tmp_path):
    assert shutil.which("ffmpeg"), "these tests need ffmpeg"
    make_clip("s.mp4", range(12), Fraction(1001, 24000), options={"crf": "1"})
    ours = f"{sys.executable} -m uprnet video - -o - --model small --json-progress 2>progress.jsonl"
    script = f"ffmpeg -v error -i s.mp4 -f yuv4mpegpipe - | {ours} | ffmpeg -v error -i - -c:v ffv1 o.mkv"
    subprocess.run(["bash", "-o", "pipefail", "-c", script], cwd=tmp_path, check=True)
    with VideoReader(tmp_path / "o.mkv") as made, VideoReader(tmp_path / "s.mp4") as source:
        frames, before = list(made), list(source)
    assert made.info.rate == Fraction(48000, 1001)
    assert len(frames) == 24
    for after, own in zip(frames[::2], before, strict=True):
        assert np.abs(after.image.astype(float) - own.image).mean() < 1
    events = [json.loads(line) for line in (tmp_path / "progress.jsonl").read_text().splitlines()]
    assert [event["done"] for event in events[:-1]] == list(range(1, 25))
    assert events[-1]["event"] == "done"
    assert events[-1]["frames_written"] == 24


def test_what_standard_input_cannot_give_twice_is_said(make_clip, tmp_path):
    source = make_clip("s.mkv", range(6), audio="flac")
    with source.open("rb") as stream:
        done = subprocess.run(
            [sys.executable, WORKER, "-", tmp_path / "o.mkv"], stdin=stream, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 0
    assert done.stderr == "o.mkv: the sound is dropped: the source can be read only once\n"
    with VideoReader(tmp_path / "o.mkv") as reader:
        assert len(list(reader)) == 12
