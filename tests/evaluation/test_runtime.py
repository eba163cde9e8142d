"""Run-time figures: what can be checked without a clock."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from uprnet.errors import InvalidInputError, OutputExistsError, WeightsError
from uprnet.evaluation.runtime import RuntimeOptions, _measure_model, _wait_for, convolutions_of, measure_runtime
from uprnet.network.model import UPRNet
from uprnet.network.weights import load_model

QUICK = RuntimeOptions(("small",), 60, 90, times=(1, 3), device="cpu", repeats=2, warmup=0)


def test_all_three_sizes_of_the_paper_are_timed_as_themselves():
    report = measure_runtime(replace(QUICK, models=("base", "large", "xlarge"), height=32, width=32, times=(1,)))
    assert [runtime.parameters for runtime in report.runtimes] == [1_653_961, 3_701_865, 6_563_721]
    operations = [runtime.gflops for runtime in report.runtimes]
    assert operations == sorted(operations)
    assert operations[0] < operations[1] / 2 < operations[2] / 3


def test_operations_are_those_of_the_convolutions_counted_by_hand():
    report = measure_runtime(QUICK)
    model = load_model("small")
    assert (report.runtimes[0].num_levels, report.runtimes[0].skip_finest) == (1, 0)
    by_hand = 0
    with torch.no_grad():
        image = torch.rand(1, 3, 60, 92)  # padded to multiples of 4
        for convolution, tensor in convolutions_of(model, lambda: model(image, image, 0.5, 1)):
            output = convolution(tensor)
            # A transposed convolution spreads each input, a convolution gathers for each output.
            places = tensor if isinstance(convolution, nn.ConvTranspose2d) else output
            by_hand += 2 * places[0, 0].numel() * convolution.weight.numel()
    assert report.runtimes[0].gflops * 1e9 == by_hand


def test_times_are_in_order_and_there_for_each_use():
    seen = []
    report = measure_runtime(QUICK, seen.append)
    runtime = report.runtimes[0]
    assert seen == ["small"]
    assert runtime.engine == "numba"
    assert [(t.frames, t.reuses_features) for t in runtime.timings] == [(1, False), (1, True), (3, False), (3, True)]
    for timing in runtime.timings:
        assert 0 < timing.fastest <= timing.median <= timing.slowest
        assert timing.fps == pytest.approx(timing.frames / timing.median)
    assert runtime.convolution_share > 0
    assert runtime.peak_memory is None or runtime.peak_memory > 2**26


def test_threads_are_set_and_put_back(monkeypatch):
    before, asked = torch.get_num_threads(), []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    measure_runtime(replace(QUICK, threads=before + 1, repeats=1, height=32, width=32, times=(1,)))
    assert asked == [before + 1, before]


def test_all_of_it_runs_on_the_device(monkeypatch):
    # torch refuses to mix "meta" with the CPU, as it would a GPU, and needs none.
    monkeypatch.setattr("uprnet.interpolate.pick_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)  # it does not know "meta"
    options = replace(QUICK, engine="torch", precision="fp32", memory="1TiB", repeats=1)
    assert _measure_model("small", options).gflops == measure_runtime(replace(QUICK, repeats=1)).runtimes[0].gflops


def test_the_peak_is_that_of_one_frame_alone(monkeypatch):
    order = []
    monkeypatch.setattr("uprnet.evaluation.runtime._peak_memory", lambda _: order.append("peak"))
    plain = FlopCounterMode.__enter__
    monkeypatch.setattr(FlopCounterMode, "__enter__", lambda self: order.append("plain network") or plain(self))
    encode = UPRNet.encode
    monkeypatch.setattr(UPRNet, "encode", lambda *arguments: order.append("encode") or encode(*arguments))
    measure_runtime(replace(QUICK, repeats=1, times=(1,)))
    assert order[:3] == ["encode", "encode", "peak"]
    assert order.index("peak") < order.index("plain network")


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_every_accelerator_is_waited_for(kind, monkeypatch):
    waited = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    _wait_for(torch.device("cpu"))
    _wait_for(torch.device(kind))
    assert waited == [torch.device(kind)]


def test_bfloat16_is_run():
    assert measure_runtime(replace(QUICK, precision="bf16", repeats=1)).runtimes[0].timings[0].median > 0


def test_json_and_table(tmp_path):
    report = measure_runtime(QUICK)
    report.write_json(tmp_path / "a.json")
    found = json.loads((tmp_path / "a.json").read_text())
    assert found["runtimes"][0]["timings"][0]["median"] == report.runtimes[0].timings[0].median
    assert found["options"]["width"] == 90
    assert report.table().row_count == 4
    with pytest.raises(OutputExistsError):
        report.write_json(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"precision": "int8"}, "precision must be one of auto, fp32"),
        ({"height": 8}, "at least 16 x 16"),
        ({"times": ()}, "numbers of frames from 1"),
        ({"models": ()}, "one or more models"),
        ({"repeats": 0}, "repeats and threads"),
        ({"device": "nowhere"}, "device must be"),
    ],
)
def test_options_out_of_range_are_refused(changes, text):
    with pytest.raises(InvalidInputError, match=text):
        measure_runtime(replace(QUICK, **changes))


def test_a_missing_weights_file_is_told():
    with pytest.raises(WeightsError, match="no weights file"):
        measure_runtime(replace(QUICK, models=("nowhere.safetensors",)))
