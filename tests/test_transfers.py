"""Copies to a device and back; without a GPU, its streams and pinned memory are stood in for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from uprnet.transfers import Transfers


class LateStream:
    """A stream whose copies are done, in order, when somebody waits for one of them, and not before."""

    def __init__(self) -> None:
        self.todo: list[Callable[[], object]] = []

    def __enter__(self) -> LateStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: LateStream) -> None:
        pass

    def wait_event(self, event: LateEvent) -> None:
        pass

    def record_event(self) -> LateEvent:
        return LateEvent(self)


class LateEvent:
    """A place in a stream: waiting for it does all that comes before."""

    def __init__(self, stream: LateStream) -> None:
        self.stream, self.place = stream, len(stream.todo)

    def synchronize(self) -> None:
        for place, copy in enumerate(self.stream.todo[: self.place]):
            copy()
            self.stream.todo[place] = lambda: None


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Transfers:
    """Transfers that copy as late as a busy device does."""
    stream, empty, copy = LateStream(), torch.empty, Tensor.copy_

    def copy_late(target: Tensor, source: Tensor, *, non_blocking: bool = False) -> None:
        if non_blocking:
            stream.todo.append(lambda: copy(target, source))
        else:
            copy(target, source)

    def to_late(tensor: Tensor, _device: torch.device, *, non_blocking: bool) -> Tensor:
        result = torch.empty_like(tensor)
        copy_late(result, tensor, non_blocking=non_blocking)
        return result

    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **options: empty(*size, **options))  # noqa: ARG005
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda used: used)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: LateStream())
    monkeypatch.setattr(Tensor, "copy_", copy_late)
    monkeypatch.setattr(Tensor, "to", to_late)
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    return Transfers(torch.device("cuda"))


def test_arrays_arrive_whole_however_late_the_copies_are(late: Transfers):
    sent = [late.send(np.full((3, 5), value, np.uint8)) for value in range(7)]
    late._stream.record_event().synchronize()
    assert [tensor.unique().tolist() for tensor in sent] == [[value] for value in range(7)]


def test_what_was_sent_may_be_overwritten_at_once(late: Transfers):
    array = np.ones((4, 4), np.float32)
    sent = late.send(array)
    array[:] = 9
    late._stream.record_event().synchronize()
    assert sent.eq(1).all()


def test_many_results_may_be_on_their_way_at_once(late: Transfers):
    shapes = [(2, 9), (3, 3), (2, 2), (1, 8), (9, 2), (5, 5), (1, 1)]
    waiting = [late.fetch(torch.full(shape, value)) for value, shape in enumerate(shapes)]
    results = [array() for array in reversed(waiting)][::-1]
    assert [result.shape for result in results] == shapes
    assert [np.unique(result).tolist() for result in results] == [[value] for value in range(7)]
    assert waiting[0]() is results[0]


def test_nothing_is_pinned_without_need():
    transfers = Transfers(torch.device("cpu"))
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(transfers.fetch(transfers.send(array) + 1)(), array + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_back_what_it_got():
    transfers = Transfers(torch.device("cuda"))
    arrays = [np.random.default_rng(seed).integers(0, 256, (700, 900, 3), np.uint8) for seed in range(9)]
    waiting = [transfers.fetch(transfers.send(array)) for array in arrays]
    assert all(np.array_equal(result(), array) for result, array in zip(waiting, arrays, strict=True))
