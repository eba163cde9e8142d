"""Turned and mirrored videos look as ffmpeg shows them, upright or with the display matrix kept."""

from fractions import Fraction

import av
import numpy as np
import pytest

from uprnet.media.encoder import CARRIES_ORIENTATION, Segment, SegmentEncoder, add_track
from uprnet.media.encoding import PictureFormat, choose_encoding
from uprnet.media.video import VideoReader

pytestmark = pytest.mark.skipif(not CARRIES_ORIENTATION, reason="PyAV 18 is needed to write display matrices")

ONE = 1 << 16
MATRICES = {
    "mirrored": (-ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30),
    "upside-down": (ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "180": (-ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30),
    "270": (0, ONE, 0, -ONE, 0, 0, 0, 0, 1 << 30),
    "90": (0, -ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
    "transposed": (0, ONE, 0, ONE, 0, 0, 0, 0, 1 << 30),
}


def make(path, matrix):
    """Encode one frame of random squares without loss."""
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        stream.set_display_matrix(matrix)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode(None))
    return image


@pytest.mark.parametrize("name", MATRICES)
def test_upright_frames_are_as_ffmpeg_shows_them(tmp_path, seen, name):
    make(tmp_path / "s.mp4", MATRICES[name])
    with VideoReader(tmp_path / "s.mp4") as reader:
        (frame,) = reader
        size = reader.info.height, reader.info.width
    assert frame.image.shape[:2] == size
    assert reader.info.display_matrix == ()
    assert np.array_equal(seen(tmp_path / "s.mp4", frame.image.shape)[0], frame.image)


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("name", ["90", "mirrored"])
def test_stored_frames_keep_the_matrix_in_every_container(tmp_path, probe, ending, name):
    image = make(tmp_path / "s.mp4", MATRICES[name])
    with VideoReader(tmp_path / "s.mp4", upright=False) as reader:
        (frame,) = reader
    assert np.array_equal(frame.image, image)
    picture = PictureFormat.of(reader.info, Fraction(25), Fraction(1, 25))
    encoding = choose_encoding(ending, picture)
    with SegmentEncoder(tmp_path / "0", encoding, picture) as encoder:
        encoder.write(frame.image, Fraction(0), Fraction(1, 25))
    with av.open(str(tmp_path / f"o{ending}"), "w") as container:
        stream = add_track(container, encoding, picture)
        for packet in Segment(tmp_path / "0").packets():
            packet.stream, packet.dts = stream, packet.pts  # x265's is random for one frame
            container.mux(packet)
    (data,) = probe(tmp_path / f"o{ending}", "-show_entries", "stream_side_data")["streams"][0]["side_data_list"]
    found = tuple(int(number) for row in data["displaymatrix"].strip().split("\n") for number in row.split()[1:])
    assert found == MATRICES[name]
