"""Data set trees as published, and what is said when they do not fit."""

import numpy as np
import pytest

from uprnet.errors import MediaError, TrainingError
from uprnet.training.augmentation import AugmentationConfig
from uprnet.training.trees import X4K, SeptupletConfig, Septuplets, TripletConfig, Triplets, X4KConfig

PLAIN = AugmentationConfig()


def test_triplets_are_read_with_the_middle_as_target(vimeo_tree):
    triplets = Triplets(TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=20)), 1.0))
    sample = triplets.draw(32, PLAIN, np.random.default_rng(0))
    assert sample.t == 0.5
    first, middle, last = (image.astype(int) for image in (sample.img0, sample.target, sample.img1))
    assert np.array_equal(first[1:, 1:], middle[:-1, :-1])
    assert np.array_equal(middle[1:, 1:], last[:-1, :-1])


def test_septuplets_give_many_times(vimeo_tree):
    septuplets = Septuplets(SeptupletConfig(str(vimeo_tree(7, "sep_trainlist.txt", samples=20)), 1.0))
    samples = [septuplets.draw(32, PLAIN, np.random.default_rng(seed)) for seed in range(60)]
    assert {0.5, 0.25, 0.2}.issubset({round(sample.t, 4) for sample in samples})
    for sample in samples:  # the texture slides by one pixel a frame
        y = next(d for d in range(1, 7) if np.array_equal(sample.img0[d:, d:], sample.target[:-d, :-d]))
        z = next(d for d in range(2, 7) if np.array_equal(sample.img0[d:, d:], sample.img1[:-d, :-d]))
        assert sample.t == y / z


@pytest.mark.parametrize("depth", ["clip", "scene/clip"])
def test_x4k_clips_are_found_and_scaled(tmp_path, write_image, frames, depth):
    for clip in range(3):
        for index, image in enumerate(frames(12, (160, 160), (2, 2), seed=clip)):
            write_image(tmp_path / f"{depth}{clip}" / f"{index:04d}.png", image)
    x4k = X4K(X4KConfig(str(tmp_path), 1.0, max_span=8), held_out=False)
    samples = [x4k.draw(32, PLAIN, np.random.default_rng(seed)) for seed in range(20)]
    assert all(sample.img0.shape == (32, 32, 3) and 0 < sample.t < 1 for sample in samples)


def test_x4k_scenes_are_held_out_with_all_their_clips(tmp_path):
    for scene in range(40):
        for clip in range(3):
            folder = tmp_path / f"{scene:03d}" / f"occ{clip}"
            folder.mkdir(parents=True)
            for index in range(3):
                (folder / f"{index:04d}.png").touch()
    training, validation = (
        {frames[0].relative_to(tmp_path).parts[0] for frames in X4K(X4KConfig(str(tmp_path)), held_out).clips}
        for held_out in (False, True)
    )
    assert training | validation == {f"{scene:03d}" for scene in range(40)}
    assert not training & validation
    assert validation


def test_five_percent_are_held_out_and_the_rest_is_not(vimeo_tree):
    config = TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=60, size=(16, 16))), 1.0)
    training, validation = set(Triplets(config).folders), set(Triplets(config, held_out=True).folders)
    assert not training & validation
    assert len(training | validation) == 60
    assert 1 <= len(validation) <= 8


def test_a_missing_list_is_named_with_the_expected_tree(tmp_path):
    with pytest.raises(TrainingError, match=r"the list tri_trainlist.txt, which is missing; expected:\s+root/"):
        Triplets(TripletConfig(str(tmp_path), 1.0))
    with pytest.raises(TrainingError, match=r"im7\.png"):
        Septuplets(SeptupletConfig(str(tmp_path), 1.0))


def test_a_missing_folder_is_named(tmp_path):
    for make in (
        lambda root: Triplets(TripletConfig(root, 1.0)),
        lambda root: Septuplets(SeptupletConfig(root, 1.0)),
        lambda root: X4K(X4KConfig(root, 1.0)),
    ):
        with pytest.raises(TrainingError, match="nowhere, which is not a folder; expected:"):
            make(str(tmp_path / "nowhere"))


def test_an_empty_list_is_refused(vimeo_tree):
    root = vimeo_tree(3, "tri_trainlist.txt", samples=1)
    (root / "tri_trainlist.txt").write_text("\n\n")
    with pytest.raises(TrainingError, match="none is left for training of 0"):
        Triplets(TripletConfig(str(root), 1.0))


def test_a_septuplet_tree_given_as_triplets_is_found_out(vimeo_tree):
    root = vimeo_tree(2, "tri_trainlist.txt", samples=20)
    with pytest.raises(TrainingError, match=r"must hold im3\.png, which is missing"):
        Triplets(TripletConfig(str(root), 1.0))


def test_a_folder_without_scenes_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="at least three PNG frames, found none"):
        X4K(X4KConfig(str(tmp_path), 1.0))


def test_a_truncated_image_is_named(vimeo_tree):
    root = vimeo_tree(3, "tri_trainlist.txt", samples=20)
    for path in root.rglob("im2.png"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(MediaError, match=r"im2.png is missing, damaged or no image"):
        Triplets(TripletConfig(str(root), 1.0)).draw(32, PLAIN, np.random.default_rng(0))


def test_a_crop_larger_than_the_images_is_refused(vimeo_tree):
    root = vimeo_tree(3, "tri_trainlist.txt", samples=20)
    with pytest.raises(TrainingError, match="the crop of 64x64 must fit into the images, got images of 48x64"):
        Triplets(TripletConfig(str(root), 1.0)).draw(64, PLAIN, np.random.default_rng(0))
