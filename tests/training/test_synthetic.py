"""The generator: exact flow both ways, all kinds of shapes, equal generators give equal scenes."""

import cv2
import numpy as np
import pytest

from uprnet.errors import TrainingError
from uprnet.training.shapes import SHAPES, draw_mask
from uprnet.training.sheets import save_synthetic_sheet, synthetic_sheet
from uprnet.training.synthetic import SyntheticConfig, SyntheticMotion
from uprnet.training.textures import Textures, procedural_texture

CLEAN = {"noise": 0.0, "jpeg": 0.0, "light": 0.0, "motion_blur": 0.0}


def fetch(image, flow):
    size = image.shape[0]
    y, x = np.mgrid[:size, :size].astype(np.float32)
    fetch_x, fetch_y = x + flow[..., 0], y + flow[..., 1]
    inside = (fetch_x >= 0) & (fetch_x <= size - 1) & (fetch_y >= 0) & (fetch_y <= size - 1)
    return cv2.remap(image, fetch_x, fetch_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), inside


@pytest.mark.parametrize("bend", [0.0, 1.0])
def test_flow_both_ways_is_inverse_where_nothing_is_hidden(bend):
    generator = SyntheticMotion(SyntheticConfig(max_layers=0, bend=bend, **CLEAN))
    for seed in range(5):
        scene = generator.sample(96, np.random.default_rng(seed))
        back, inside = fetch(scene.flow_10, scene.flow_01)
        error = np.abs(scene.flow_01 + back)[inside]
        assert np.percentile(error, 99) < 0.05  # pixels


def test_flow_explains_the_pictures_except_where_something_is_hidden():
    generator = SyntheticMotion(SyntheticConfig(**CLEAN))
    for seed in range(5):
        scene = generator.sample(128, np.random.default_rng(seed))
        for here, there, flow in (
            (scene.img0, scene.img1, scene.flow_01),
            (scene.img1, scene.img0, scene.flow_10),
        ):
            fetched, inside = fetch(there, flow)
            explained = np.abs(fetched.astype(float) - here).mean(axis=2)[inside]
            assert np.median(explained) < 4  # of 255
            assert (explained > 30).mean() < 0.25


def test_the_target_is_where_t_says():
    config = SyntheticConfig(max_layers=0, bend=0, acceleration=0, rotation=0, zoom=0, middle=0, **CLEAN)
    scene = SyntheticMotion(config).sample(96, np.random.default_rng(1))
    assert scene.t != 0.5
    fetched, inside = fetch(scene.target, (scene.t * scene.flow_01).astype(np.float32))
    assert np.median(np.abs(fetched.astype(float) - scene.img0)[inside]) < 3


def test_fast_layers_are_small_and_go_far():
    config = SyntheticConfig(fast=1.0, mean_motion=1e-3, rotation=0, zoom=0, bend=0, max_layers=1, **CLEAN)
    generator = SyntheticMotion(config)
    lengths = []
    for seed in range(40):
        length = np.linalg.norm(generator.sample(96, np.random.default_rng(seed)).flow_01, axis=2)
        assert (length > 1).mean() < 0.1  # of the picture; the rest lies still
        lengths.append(length.max())
    assert max(lengths) > 24
    assert max(lengths) <= 96 / 3 + 0.1
    assert sum(4 < length < 28 for length in lengths) > 10  # not all as far as they may


def test_equal_generators_give_equal_scenes_and_others_do_not():
    generator = SyntheticMotion(SyntheticConfig())
    first, second, third = (generator.sample(64, np.random.default_rng(seed)) for seed in (7, 7, 8))
    assert np.array_equal(first.img0, second.img0)
    assert np.array_equal(first.flow_01, second.flow_01)
    assert not np.array_equal(first.img0, third.img0)


def test_motion_grows_with_its_scale_and_has_a_limit():
    config = SyntheticConfig(max_layers=0, rotation=0, zoom=0, bend=0, mean_motion=1000)
    generator = SyntheticMotion(config)
    full, half = (generator.sample(96, np.random.default_rng(0), scale).flow_01 for scale in (1.0, 0.001))
    assert np.hypot(full[..., 0], full[..., 1]).max() == pytest.approx(32, abs=0.01)  # a third of the frame
    assert np.hypot(half[..., 0], half[..., 1]).max() < 8


@pytest.mark.parametrize("effect", ["noise", "jpeg"])
def test_noise_and_compression_spare_the_target(effect):
    clean = SyntheticMotion(SyntheticConfig(max_layers=0, **CLEAN)).sample(64, np.random.default_rng(2))
    spoilt = SyntheticMotion(SyntheticConfig(max_layers=0, **{**CLEAN, effect: 1.0})).sample(
        64, np.random.default_rng(2)
    )
    assert np.array_equal(clean.target, spoilt.target)
    assert not np.array_equal(clean.img0, spoilt.img0)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_drawn_with_soft_edges_inside_its_square(shape):
    for seed in range(20):
        mask = draw_mask(40, np.random.default_rng(seed), shape)
        assert 0 < (mask > 127).mean() < 0.95
        assert not mask[[0, -1]].any()
        assert not mask[:, [0, -1]].any()
    assert ((mask > 0) & (mask < 255)).any()


def test_the_smallest_shapes_can_be_drawn():
    for seed in range(100):
        assert draw_mask(8, np.random.default_rng(seed)).shape == (8, 8)


def test_procedural_texture_has_something_to_match():
    texture = procedural_texture((64, 80), np.random.default_rng(0)).astype(float)
    assert texture.shape == (64, 80, 3)
    assert np.abs(np.diff(texture.mean(axis=2), axis=1)).mean() > 2


def test_photos_are_split_into_training_and_validation(tmp_path, write_image):
    for index in range(40):
        write_image(tmp_path / f"{index:02d}.png", np.full((80, 80, 3), index * 6, dtype=np.uint8))
    seen = {}
    for held_out in (False, True):
        textures = Textures(tmp_path, held_out)
        seen[held_out] = {textures.draw((16, 16), np.random.default_rng(seed))[0, 0, 0] for seed in range(300)}
    assert seen[True] == {0, 120}
    assert not seen[True] & seen[False]


def test_a_folder_without_photos_is_refused(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(TrainingError, match="got nothing readable in"):
        SyntheticMotion(SyntheticConfig(photos=str(tmp_path)))
    with pytest.raises(TrainingError, match="which is not a folder"):
        SyntheticMotion(SyntheticConfig(photos=str(tmp_path / "nowhere")))


def test_the_sheet_shows_one_scene_a_row(tmp_path):
    sheet = synthetic_sheet(SyntheticConfig(), rows=2, size=48)
    assert sheet.shape == (96, 240, 3)
    save_synthetic_sheet(tmp_path / "sheet.png", SyntheticConfig(), rows=2, size=48)
    assert np.array_equal(cv2.imread(str(tmp_path / "sheet.png"))[:, :, ::-1], sheet)
