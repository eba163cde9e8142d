"""The stream of samples: pure in (seed, index), mixed by weight, honest about bad files."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from uprnet.errors import TrainingError
from uprnet.training.augmentation import AugmentationConfig
from uprnet.training.mixture import DataConfig, Positions, TrainingStream, motion_scale
from uprnet.training.sample import collate
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.trees import SeptupletConfig, TripletConfig

SYNTHETIC = DataConfig(crop=32, synthetic=SyntheticConfig(weight=1.0, max_layers=1))


def test_a_sample_depends_on_seed_and_index_alone():
    stream = TrainingStream(SYNTHETIC, seed=3, length=100)
    there_and_back = [stream[index] for index in (5, 9, 5)]
    other = TrainingStream(SYNTHETIC, seed=4, length=100)[5]
    assert np.array_equal(there_and_back[0].img0, there_and_back[2].img0)
    assert not np.array_equal(there_and_back[0].img0, there_and_back[1].img0)
    assert not np.array_equal(there_and_back[0].img0, other.img0)


def test_sources_mix_by_weight(vimeo_tree):
    tree = TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=20)), 3.0)
    stream = TrainingStream(replace(SYNTHETIC, triplets=tree), 0, 400)
    synthetic = sum(stream[index].flow_01 is not None for index in range(400))
    assert 70 < synthetic < 130  # a quarter of 400, three deviations each way


def test_a_mixed_batch_knows_where_the_flow_is_known(vimeo_tree):
    tree = TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=20)), 1.0)
    stream = TrainingStream(replace(SYNTHETIC, triplets=tree), 0, 100)
    samples = [stream[index] for index in range(8)]
    batch = collate(samples).unpack(torch.device("cpu"))
    assert batch.img0.shape == (8, 3, 32, 32)
    assert batch.has_flow.tolist() == [float(sample.flow_01 is not None) for sample in samples]
    for index, sample in enumerate(samples):
        assert np.array_equal(np.rint(batch.target[index].numpy() * 255), sample.target.transpose(2, 0, 1))
        if sample.flow_10 is not None:
            assert np.array_equal(batch.flow[index, 2:].numpy(), sample.flow_10.transpose(2, 0, 1))
        else:
            assert not batch.flow[index].any()


def test_a_batch_without_any_flow_is_laid_out_as_asked(vimeo_tree):
    tree = TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=20)), 1.0)
    stream = TrainingStream(DataConfig(crop=32, triplets=tree), 0, 100)
    packed = collate([stream[index] for index in range(2)])
    batch = packed.unpack(torch.device("cpu"), channels_last=True)
    assert batch.img0.is_contiguous(memory_format=torch.channels_last)
    assert batch.flow.shape == (2, 4, 32, 32)
    assert not batch.flow.any()
    assert not batch.has_flow.any()


def test_processes_and_parts_share_out_a_step_without_gap_or_overlap():
    whole = list(Positions(3, 5, batch_size=8, parts=1, rank=0, processes=1))
    assert whole == [list(range(24, 32)), list(range(32, 40))]
    shares = [list(Positions(3, 5, batch_size=8, parts=2, rank=rank, processes=2)) for rank in (0, 1)]
    first_step = shares[0][0] + shares[0][1] + shares[1][0] + shares[1][1]
    assert first_step == whole[0]
    assert len(Positions(3, 5, 8, 2, 0, 2)) == len(shares[0]) == 4


@pytest.fixture
def damaged(vimeo_tree):
    """A tree in which every second sample has a truncated target."""
    root = vimeo_tree(3, "tri_trainlist.txt", samples=40)
    for path in sorted(root.rglob("im2.png"))[::2]:
        path.write_bytes(path.read_bytes()[:40])
    return DataConfig(crop=32, triplets=TripletConfig(str(root), 1.0), augmentation=AugmentationConfig(rotate=False))


def test_bad_samples_are_named_skipped_and_counted(damaged, caplog):
    stream = TrainingStream(damaged, 0, 40)
    with caplog.at_level(logging.WARNING):
        batch = collate([stream[index] for index in range(40)])
    messages = [record.message for record in caplog.records]
    assert batch.skipped.sum() == len(messages) > 10
    assert all("im2.png is missing, damaged or no image" in message for message in messages)


def test_bad_samples_stop_the_run_if_asked(damaged):
    stream = TrainingStream(replace(damaged, on_bad_sample="stop"), 0, 40)
    with pytest.raises(TrainingError, match=r"sample \d+ cannot be read: .*im2.png"):
        [stream[index] for index in range(40)]


def test_a_data_set_of_bad_samples_stops_the_run(vimeo_tree):
    root = vimeo_tree(7, "sep_trainlist.txt", samples=20)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    stream = TrainingStream(DataConfig(crop=32, septuplets=SeptupletConfig(str(root), 1.0)), 0, 10)
    with pytest.raises(TrainingError, match="20 samples in a row cannot be read"):
        stream[0]


def test_wrong_settings_are_refused():
    with pytest.raises(TrainingError, match="one above 0, got 0, 0, 0, 0, 0"):
        TrainingStream(DataConfig(), 0, 1)
    with pytest.raises(TrainingError, match="must be skip or stop, got 'ignore'"):
        TrainingStream(replace(SYNTHETIC, on_bad_sample="ignore"), 0, 1)


def test_a_curriculum_grows_and_then_stays():
    assert [motion_scale(progress, 0.5) for progress in (0.0, 0.25, 0.5, 1.0)] == [0.25, 0.625, 1.0, 1.0]
    assert motion_scale(0.0, 0.0) == 1.0
