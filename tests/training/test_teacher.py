"""The teacher: what it makes of samples, and how others are measured against it."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from uprnet.errors import TrainingError, WeightsError
from uprnet.network.weights import load_model
from uprnet.training.loop import train
from uprnet.training.mixture import DataConfig, TrainingStream
from uprnet.training.objective import LossConfig, Objective
from uprnet.training.sample import collate
from uprnet.training.synthetic import SyntheticConfig
from uprnet.training.teacher import Teacher, TeacherConfig
from uprnet.training.views import VIEWS, View

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def batch():
    stream = TrainingStream(DataConfig(crop=64, synthetic=SyntheticConfig(weight=1.0, mean_motion=4.0)), 0, 4)
    return collate([stream[index] for index in range(4)]).unpack(CPU, channels_last=True)


def teacher(views):
    return Teacher(TeacherConfig("small", views=views), 3, CPU, nullcontext)


def turned(batch):
    """The same samples, turned by a quarter."""
    images = {name: torch.rot90(getattr(batch, name), 1, (2, 3)) for name in ("img0", "img1", "target")}
    return replace(batch, **images)


def test_without_a_teacher_the_lesson_is_the_truth(batch):
    assert batch.lesson is batch.target


def test_the_mean_over_all_views_turns_with_the_picture_and_does_not_depend_on_the_order_of_time(batch):
    teach = teacher(VIEWS)
    lesson = teach(batch).lesson
    assert torch.allclose(torch.rot90(lesson, 1, (2, 3)), teach(turned(batch)).lesson, atol=1e-4)
    backwards = replace(batch, img0=batch.img1, img1=batch.img0, t=1 - batch.t)
    assert torch.allclose(lesson, teach(backwards).lesson, atol=1e-4)
    plain = load_model("small")(batch.img0, batch.img1, batch.t).frame
    assert (plain - lesson).abs().mean() > 1e-4  # a single view does depend on them


def test_every_view_comes_back_as_the_frame_it_was(batch):
    """Each view's frame is near the truth: turned the wrong way it would not be."""
    teach = teacher(1)
    blend = (batch.img0 + batch.img1) / 2
    for view in range(VIEWS):
        frame, _ = teach._look(batch.img0, batch.img1, batch.t, View(view))
        error = (frame - batch.target).square().mean()
        assert error < 0.5 * (blend - batch.target).square().mean(), view


def test_every_view_finds_the_same_motion(batch):
    """Each view's flow is near the true one: with a sign or an axis wrong it would be no better than none."""
    teach = teacher(1)
    for view in range(VIEWS):
        _, flow = teach._look(batch.img0, batch.img1, batch.t, View(view))
        assert (flow - batch.flow).abs().mean() < 0.5 * batch.flow.abs().mean(), view


@pytest.mark.parametrize("frames", [False, True])
def test_motion_is_taught_where_nobody_knows_it_and_the_true_one_stays(batch, frames):
    teach = Teacher(TeacherConfig("small", motion=True, views=VIEWS), 3, CPU, nullcontext, frames)
    has_flow = torch.tensor([1.0, 0.0, 1.0, 0.0])
    half = replace(batch, has_flow=has_flow, flow=batch.flow * has_flow[:, None, None, None])
    taught = teach(half)
    assert taught.has_flow.tolist() == [1, 1, 1, 1]
    assert torch.equal(taught.flow[::2], batch.flow[::2])
    assert (taught.lesson is half.lesson) == (not frames)  # none are made for nothing
    alone = teach(replace(half, flow=0 * half.flow, has_flow=0 * has_flow))
    assert torch.allclose(taught.flow[1::2], alone.flow[1::2], atol=1e-4)
    assert torch.equal(teach(taught).flow, taught.flow)  # nothing is unknown


def test_views_are_drawn_anew_and_repeat_with_the_random_state(batch):
    teach = teacher(1)
    torch.manual_seed(3)
    first = [teach(batch).lesson for _ in range(4)]
    torch.manual_seed(3)
    again = [teach(batch).lesson for _ in range(4)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1]) or not torch.equal(first[1], first[2])


def test_the_loss_is_the_distance_from_the_lesson_and_nothing_else(batch):
    model = load_model("small")
    frame = model(batch.img0, batch.img1, batch.t).frame
    objective = Objective(model, LossConfig(charbonnier=0, census=0, teacher=0.5), num_levels=3)
    total, parts = objective(replace(batch, lesson=frame + 0.1))
    assert list(parts) == ["teacher"]
    assert parts["teacher"].tolist() == pytest.approx([-20.0] * len(frame), abs=0.01)  # decibel
    assert torch.allclose(total, 0.5 * parts["teacher"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": TeacherConfig("small")}, "go together"),
        ({"loss": LossConfig(teacher=0.1)}, "go together"),
        ({"teacher": TeacherConfig(motion=True), "loss": LossConfig(flow=0.1)}, "go together"),
        (
            {"teacher": TeacherConfig("small", motion=True), "loss": LossConfig()},
            "teacher.motion is learned by loss.flow, got 0",
        ),
    ],
)
def test_a_teacher_and_what_it_teaches_go_together(tiny, settings, message):
    with pytest.raises(TrainingError, match=message):
        tiny(1, **settings)


def test_a_missing_teacher_is_refused_at_the_start(tiny):
    with pytest.raises(WeightsError, match=r"nobody.safetensors"):
        train(tiny(1, loss=LossConfig(teacher=0.1), teacher=TeacherConfig("nobody.safetensors")))


@pytest.mark.parametrize(("views", "limit"), [(0, "at least 1, got 0"), (17, "at most 16, got 17")])
def test_views_that_there_are_not_are_refused(views, limit):
    with pytest.raises(TrainingError, match=f"teacher.views must be {limit}"):
        TeacherConfig("small", views=views)
