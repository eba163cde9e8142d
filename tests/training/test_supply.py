"""What steps learn: new samples, or the same ones from another side."""

import pytest
import torch

from uprnet.training.mixture import DataConfig, TrainingStream
from uprnet.training.sample import collate
from uprnet.training.supply import Supply
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.views import VIEWS, View

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed():
    """Four batches of two samples, of which one was drawn after three unreadable ones."""
    stream = TrainingStream(DataConfig(crop=32, synthetic=SyntheticConfig(weight=1.0)), 0, 8)
    batches = [collate([stream[index], stream[index + 1]]) for index in range(0, 8, 2)]
    batches[1].skipped[0] = 3
    return batches


def view_of(batch, packed):
    """Which samples, in which view, a batch is."""
    plain = [sample.unpack(CPU) for sample in packed]
    found = [
        (index, number)
        for index, sample in enumerate(plain)
        for number in range(VIEWS)
        if torch.equal(View(number).batch(sample).img0, batch.img0)
        and torch.equal(View(number).time(sample.t), batch.t)
    ]
    assert len(found) == 1
    return found[0]


def test_each_step_takes_new_samples_as_they_are(packed):
    supply, batches = Supply(CPU, False, None, 1, (0,)), iter(packed)
    assert [view_of(supply(step, 0, batches), packed) for step in range(4)] == [(0, 0), (1, 0), (2, 0), (3, 0)]


def test_echoes_are_the_same_samples_from_other_sides(packed):
    supply, batches = Supply(CPU, True, None, 4, (0,)), iter(packed)
    learned = [supply(step, 0, batches) for step in range(16)]
    found = [view_of(batch, packed) for batch in learned]
    assert [index for index, _ in found] == [step // 4 for step in range(16)]
    assert len({view for _, view in found}) > 6
    assert sum(int(batch.skipped.sum()) for batch in learned) == 3
    assert all(batch.img0.is_contiguous(memory_format=torch.channels_last) for batch in learned)


def test_each_part_of_a_step_has_echoes_of_its_own(packed):
    supply, batches = Supply(CPU, False, None, 2, (0,)), iter(packed)
    found = [view_of(supply(step, part, batches), packed)[0] for step in range(4) for part in range(2)]
    assert found == [0, 1, 0, 1, 2, 3, 2, 3]


def test_what_is_drawn_depends_on_the_place_in_the_run_alone(packed):
    whole, resumed = (Supply(CPU, False, None, 3, (0,)) for _ in range(2))
    batches = iter(packed)
    learned = [whole(step, 0, batches) for step in range(6)]
    assert torch.equal(resumed(4, 0, iter(packed[1:])).img0, learned[4].img0)
    other = Supply(CPU, False, None, 3, (1,))
    assert any(not torch.equal(other(step, 0, iter(packed)).img0, learned[step].img0) for step in range(3))
