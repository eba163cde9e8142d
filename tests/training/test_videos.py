"""A folder of videos: what is kept of it, and which triples are drawn."""

import logging
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.errors import TrainingError
from uprnet.training.augmentation import AugmentationConfig
from uprnet.training.mixture import DataConfig, TrainingStream
from uprnet.training.videos import VideoConfig, VideoFolder

PLAIN = AugmentationConfig()


def write_video(path, frames, times=None):
    """Write a clip of high quality; ``times`` are in 25ths of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "preset": "ultrafast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv444p"
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (times[index] if times else index), Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def folder(tmp_path, **changes):
    config = VideoConfig(root=str(tmp_path / "clips"), cache=str(tmp_path / "cache"), weight=1.0)
    return replace(config, **changes)


def draws(videos, count=40, size=64):
    return [videos.draw(size, PLAIN, np.random.default_rng(seed)) for seed in range(count)]


@pytest.fixture
def frame_folder(tmp_path, write_image):
    """Write frames as a folder of PNGs: what is drawn can be compared exactly."""

    def make(name, images):
        for index, image in enumerate(images):
            write_image(tmp_path / "clips" / name / f"{index:04d}.png", image)

    return make


def numbered(count, size=(160, 176), start=0):
    """Moving noise whose blue channel is the number of the frame."""
    rng = np.random.default_rng(0)
    texture = np.repeat(np.repeat(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), 8, axis=0), 8, axis=1)
    images = []
    for index in range(start, start + count):
        image = texture[2 * index : 2 * index + size[0], 2 * index : 2 * index + size[1]].copy()
        image[..., 2] = index
        images.append(image)
    return images


def numbers(sample):
    return tuple(int(image[0, 0, 2]) for image in (sample.img0, sample.target, sample.img1))


def test_triples_are_in_order_and_t_is_their_place(tmp_path, frame_folder):
    frame_folder("toy", numbered(12))
    seen = set()
    for sample in draws(VideoFolder(folder(tmp_path, middle=0.3, max_stride=3)), 120):
        x, y, z = numbers(sample)
        assert x < y < z <= x + 6
        assert sample.t == pytest.approx((y - x) / (z - x))
        assert sample.img0.shape == (64, 64, 3)
        seen.add((y - x, z - y))
    assert len(seen) > 8


def test_the_middle_alone_if_asked(tmp_path, frame_folder):
    frame_folder("toy", numbered(12))
    assert {sample.t for sample in draws(VideoFolder(folder(tmp_path, middle=1.0)))} == {0.5}


def test_no_triple_spans_a_cut_or_a_repeated_frame(tmp_path, frame_folder):
    images = numbered(10)
    other = [255 - image for image in numbered(10)]
    for index, image in enumerate(other):
        image[..., 2] = 100 + index
    repeated = [*images[:5], images[4], *images[5:]]
    frame_folder("toy", repeated + other)
    for sample in draws(VideoFolder(folder(tmp_path)), 150):
        x, _, z = numbers(sample)
        assert (x < 100) == (z < 100)
        assert z <= 4 or x >= 4


def test_times_come_from_the_file(tmp_path, frames):
    times = [0, 1, 2, 6, 7, 8, 9, 10, 11, 12]
    write_video(tmp_path / "clips" / "clip.mkv", frames(10, (160, 176)), times)
    videos = VideoFolder(folder(tmp_path))
    assert videos.clips[0].times.tolist() == pytest.approx([time / 25 for time in times], abs=1e-3)
    assert 0.2 in {round(sample.t, 3) for sample in draws(videos)}  # 1, 2, 6: a fifth of the way


def test_a_hard_compressed_clip_is_shrunk_to_half(tmp_path, frames):
    images = frames(12, (320, 400), (2, 2))
    write_video(tmp_path / "clips" / "good.mkv", images)
    flat = [np.full_like(image, 20 * index) for index, image in enumerate(images)]  # costs next to nothing
    write_video(tmp_path / "clips" / "soft.mkv", flat)
    sizes = {clip.name: clip.frames.shape[1:3] for clip in VideoFolder(folder(tmp_path)).clips}
    assert sizes["good.mkv"] == (320, 400)
    assert sizes["soft.mkv"][0] <= 160


def test_decoding_happens_once(tmp_path, frame_folder, monkeypatch):
    frame_folder("toy", numbered(8))
    first = VideoFolder(folder(tmp_path))
    monkeypatch.setattr("uprnet.training.clips._frames", None)
    second = VideoFolder(folder(tmp_path))
    assert np.array_equal(first.clips[0].frames, second.clips[0].frames)
    assert [numbers(s) for s in draws(first, 10)] == [numbers(s) for s in draws(second, 10)]


def test_motion_is_measured_in_pixels_of_the_cached_frames(tmp_path, frames, write_image):
    for index, image in enumerate(frames(8, (288, 384), (0, 4))):
        write_image(tmp_path / "clips" / "pan" / f"{index}.png", image)
    clip = VideoFolder(folder(tmp_path)).clips[0]
    assert np.median(clip.motion) == pytest.approx(4, abs=1)


def test_dis_flow_is_the_motion_where_both_directions_agree(tmp_path, frames, frame_folder):
    frame_folder("slide", frames(12, (160, 176), (2, 3)))
    videos = VideoFolder(folder(tmp_path, dis_flow=True, max_stride=1))
    for sample in draws(videos, 10, 96):
        for flow, sign in ((sample.flow_01, -1), (sample.flow_10, 1)):
            known = np.isfinite(flow).all(axis=2)
            assert 0.7 < known.mean() < 1
            # Two frames further the texture has moved by 6 and 4 pixels; what leaves the picture is not known.
            error = np.hypot(flow[..., 0] - 6 * sign, flow[..., 1] - 4 * sign)[known]
            assert np.median(error) < 0.2
        assert not np.isfinite(sample.flow_01[:2, :4]).any()


def test_dis_flow_does_not_judge(tmp_path, frames, frame_folder):
    frame_folder("slide", frames(12, (96, 128), (2, 3)))
    videos = VideoFolder(folder(tmp_path, dis_flow=True, held_out=("slide",)), held_out=True)
    assert videos.draw(64, PLAIN, np.random.default_rng(0)).flow_01 is None


def test_held_out_clips_are_kept_apart(tmp_path, frame_folder):
    for name in ("a", "b", "c"):
        frame_folder(name, numbered(5))
    config = folder(tmp_path, held_out=("b*",), exclude=("c",))
    assert [clip.name for clip in VideoFolder(config).clips] == ["a"]
    assert [clip.name for clip in VideoFolder(config, held_out=True).clips] == ["b"]


def test_a_broken_video_is_named_and_left_out(tmp_path, frame_folder, caplog):
    frame_folder("good", numbered(5))
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    with caplog.at_level(logging.WARNING):
        videos = VideoFolder(folder(tmp_path))
    assert [clip.name for clip in videos.clips] == ["good"]
    assert "broken.mp4 is left out" in caplog.text


def test_no_folder_is_not_the_current_one():
    with pytest.raises(TrainingError, match=r"data\.video\.root must be a folder of videos, got ''"):
        VideoFolder(VideoConfig(weight=1))


def test_a_cache_without_its_pixels_is_made_anew(tmp_path, frame_folder):
    frame_folder("toy", numbered(5))
    expected = VideoFolder(folder(tmp_path)).clips[0].frames.copy()
    for pixels in tmp_path.rglob("*.rgb"):
        pixels.unlink()
    np.testing.assert_array_equal(VideoFolder(folder(tmp_path)).clips[0].frames, expected)


@pytest.mark.parametrize("state", ["missing", "empty", "still"])
def test_a_folder_without_usable_videos_is_refused(tmp_path, frame_folder, state):
    if state != "missing":
        (tmp_path / "clips").mkdir()
    if state == "still":
        frame_folder("still", numbered(1) * 6)
    expected = "which is not a folder" if state == "missing" else "found none for training"
    with pytest.raises(TrainingError, match=expected):
        VideoFolder(folder(tmp_path))


def test_a_crop_larger_than_the_frames_is_refused(tmp_path, frame_folder):
    frame_folder("toy", numbered(5))
    message = "the crop of 200x200 must fit into the images, toy is 160x176"
    with pytest.raises(TrainingError, match=message):
        draws(VideoFolder(folder(tmp_path)), 1, size=200)
    with pytest.raises(TrainingError, match=message):  # before the first sample
        TrainingStream(DataConfig(crop=200, video=folder(tmp_path)), 0, 10)
