"""The engine numba: each kind of convolution against torch's, at shapes that touch every edge."""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from uprnet.engines import numba as engine
from uprnet.engines import shares
from uprnet.engines.graph import Convolution, Graph
from uprnet.network.ops import cpu
from uprnet.network.ops.vectors import LANES, VECTOR


def layer(
    output: str,
    inputs: tuple[str, ...],
    sizes: tuple[int, int],
    taps: int = 3,
    stride: int = 1,
    transposed: bool = False,
) -> Convolution:
    generator = torch.Generator().manual_seed(sum(sizes) + taps)
    channels_in, channels_out = sizes
    shape = (channels_in, channels_out, 4, 4) if transposed else (channels_out, channels_in, taps, taps)
    weight = torch.randn(shape, generator=generator) / (channels_in * taps * taps) ** 0.5
    bias, slopes = torch.randn(channels_out, generator=generator), torch.rand(channels_out, generator=generator)
    return Convolution(output, inputs, weight, bias, 2 if transposed else stride, transposed, slopes)


def by_torch(layer: Convolution, inputs: list[torch.Tensor]) -> torch.Tensor:
    joined = torch.cat(inputs, dim=1)
    if layer.is_transposed:
        made = F.conv_transpose2d(joined, layer.weight, layer.bias, stride=2, padding=1)
    else:
        made = F.conv2d(joined, layer.weight, layer.bias, layer.stride, layer.weight.shape[-1] // 2)
    return made if layer.slopes is None else F.prelu(made, layer.slopes)


def picture(channels: int, height: int, width: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels + height)
    return torch.randn(batch, channels, height, width, generator=generator)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 3), (9, 30), (40, 17)])
@pytest.mark.parametrize("channels", [(3, 5), (13, 8), (LANES, LANES), (LANES + 3, 2 * LANES + 1), (40, 7 * LANES)])
@pytest.mark.parametrize("kind", ["3 x 3", "stride 2", "transposed", "1 x 1"])
def test_convolutions_are_those_of_torch(kind: str, channels: tuple[int, int], size: tuple[int, int]):
    settings: dict[str, Any] = {
        "3 x 3": {},
        "stride 2": {"stride": 2},
        "transposed": {"transposed": True},
        "1 x 1": {"taps": 1},
    }[kind]
    one = layer("y", ("x",), channels, **settings)
    x = picture(channels[0], *size, batch=2)
    (got,) = engine.build(Graph({"x": channels[0]}, (one,), ("y",), {}))([x])
    torch.testing.assert_close(got, by_torch(one, [x]), rtol=0, atol=5e-5)


def chain(height: int = 35) -> tuple[Graph, dict[str, torch.Tensor]]:
    """A transposed convolution, three that follow it, one of which reads another input, too."""
    layers = (
        layer("a", ("x",), (12, 16), transposed=True),
        layer("b", ("a", "z"), (22, 24)),
        layer("c", ("b",), (24, 20), taps=1),
        layer("d", ("c",), (20, 8)),
    )
    return Graph({"x": 12, "z": 6}, layers, ("d",), {"z": 0.2}), {
        "x": picture(12, height, 22),
        "z": picture(6, 2 * height, 44),
    }


def expected_of_chain(graph: Graph, known: dict[str, torch.Tensor]) -> torch.Tensor:
    known = {**known, "z": F.leaky_relu(known["z"], 0.2)}
    for one in graph.layers:
        known[one.output] = by_torch(one, [known[name] for name in one.inputs])
    return known["d"]


@pytest.mark.parametrize("step_bytes", [1, 2**16, 2**30])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_shares_and_steps_do_not_show(monkeypatch: pytest.MonkeyPatch, step_bytes: int, threads: int):
    monkeypatch.setattr(shares, "MIN_ROWS", 1)
    monkeypatch.setattr(engine, "STEP_BYTES", step_bytes)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    graph, known = chain()
    (got,) = engine.build(graph)(list(known.values()))
    torch.testing.assert_close(got, expected_of_chain(graph, known), rtol=0, atol=5e-5)


def test_the_result_is_the_same_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shares, "MIN_ROWS", 1)
    graph, known = chain()
    run = engine.build(graph)
    results = []
    for threads in (1, 2, 3, 7):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        results.append(run(list(known.values()))[0])
    assert all(torch.equal(results[0], result) for result in results)


@pytest.mark.parametrize("patience", [shares.PATIENCE, 0.0])
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_rows_taken_from_another_thread_are_those_made_again(
    monkeypatch: pytest.MonkeyPatch, threads: int, patience: float
):
    """Tall enough for seams; without patience, or where the other thread is late, everything is computed."""
    graph, known = chain(height=100)
    run = engine.build(graph)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    (alone,) = run(list(known.values()))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(shares, "PATIENCE", patience)
    saved: list[int] = []
    save = engine.kernels.save_seam
    monkeypatch.setattr(engine.kernels, "save_seam", lambda *arguments: saved.append(1) or save(*arguments))
    (together,) = run(list(known.values()))
    assert len(saved) == threads - 1
    assert torch.equal(alone, together)


def test_an_error_in_a_thread_is_raised(monkeypatch: pytest.MonkeyPatch):
    def fail(*_arguments: Any) -> None:
        raise MemoryError("no room")

    graph, known = chain()
    run = engine.build(graph)
    monkeypatch.setattr(engine.kernels, "convolve", fail)
    with pytest.raises(MemoryError, match="no room"):
        run(list(known.values()))


def test_slices_of_channels_are_read_in_place():
    one = layer("y", ("x",), (16, 16))
    whole = picture(21, 12, 20).contiguous(memory_format=torch.channels_last)
    x = whole[:, 3:19]
    (got,) = engine.build(Graph({"x": 16}, (one,), ("y",), {}))([x])
    torch.testing.assert_close(got, by_torch(one, [x]), rtol=0, atol=5e-5)


@pytest.mark.parametrize("rows", [8, 16])
@pytest.mark.parametrize("threads", [1, 4])
def test_scratch_memory_is_what_steps_need_and_not_overrun(monkeypatch: pytest.MonkeyPatch, rows: int, threads: int):
    """Wide inputs are gathered tile by tile: what lies between layers has the channels of the layers alone."""
    graph, known = chain()
    program = engine.build(graph)
    widest = 44 * -(-24 // LANES) * VECTOR  # bytes of a row
    monkeypatch.setattr(engine, "STEP_BYTES", rows * widest)
    monkeypatch.setattr(shares, "MIN_ROWS", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    guard = np.arange(4096, dtype=np.uint8)
    held: list[tuple[np.ndarray, int]] = []

    def memory(size: int) -> np.ndarray:
        block = np.zeros(size + guard.size + VECTOR, np.uint8)
        first = -block.ctypes.data % VECTOR
        block[first + size : first + size + guard.size] = guard
        held.append((block, first + size))
        return block[first:]

    monkeypatch.setattr(cpu, "thread_memory", memory)
    (got,) = program([known[name] for name in graph.inputs])
    torch.testing.assert_close(got, expected_of_chain(graph, known), rtol=0, atol=1e-4)
    for block, end in held:
        assert np.array_equal(block[end : end + guard.size], guard)
        # Three layers pass something on: 2, 8 and 24 rows more than a step.
        assert block.size < (3 * rows + 36) * widest + program._chains[0]._scratch + 2 * guard.size


def test_inputs_are_dropped_once_they_were_used(monkeypatch: pytest.MonkeyPatch):
    layers = (layer("a", ("x",), (3, 8)), layer("b", ("a",), (8, 8), stride=2), layer("c", ("b", "z"), (10, 8)))
    program = engine.build(Graph({"x": 3, "z": 2}, layers, ("c",), {}))
    inputs = [
        picture(3, 16, 16).contiguous(memory_format=torch.channels_last),
        picture(2, 8, 8).contiguous(memory_format=torch.channels_last),
    ]
    alive = [weakref.ref(tensor) for tensor in inputs]
    seen = []
    run = engine.Chain.run

    def watched(chain: Any, known: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append([reference() is not None for reference in alive])
        return run(chain, known)

    monkeypatch.setattr(engine.Chain, "run", watched)
    program(inputs)
    assert inputs == []
    assert seen == [[True, True], [False, True]]
    assert [reference() for reference in alive] == [None, None]
