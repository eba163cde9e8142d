"""The loop: exact resume, many processes, guards. Each run is a second long."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from uprnet.errors import TrainingError
from uprnet.network.weights import load_model
from uprnet.training.checkpoints import CheckpointFolder
from uprnet.training.config import ComputeConfig, NetworkConfig, OptimizerConfig, ValidationConfig, write_recipe
from uprnet.training.loop import train
from uprnet.training.mixture import DataConfig
from uprnet.training.objective import LossConfig, Objective
from uprnet.training.preparation import check_batch
from uprnet.training.schedule import learning_rate
from uprnet.training.teacher import TeacherConfig
from uprnet.training.trees import TripletConfig

SPEED = "samples_per_second"


def final_state(run):
    return CheckpointFolder(Path(run) / "checkpoints", 3).latest()


def assert_same(first, second):
    """Equal to the last bit, all the way down."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            if key != SPEED:
                assert_same(first[key], second[key])
    elif isinstance(first, list):
        assert len(first) == len(second)
        for left, right in zip(first, second, strict=True):
            assert_same(left, right)
    else:
        assert first == second or (first != first and second != second)


def lines(run):
    return [json.loads(line) for line in (Path(run) / "metrics.jsonl").read_text().splitlines()]


def test_the_schedule_rises_linearly_and_falls_as_a_cosine():
    paper = OptimizerConfig()
    assert learning_rate(0, paper) == 0
    assert learning_rate(1_000, paper) == pytest.approx(1e-4)
    assert learning_rate(2_000, paper) == pytest.approx(2e-4)
    assert learning_rate((2_000 + 800_000) // 2, paper) == pytest.approx(1.1e-4)
    assert learning_rate(800_000, paper) == pytest.approx(2e-5)


def test_a_run_leaves_recipe_metrics_and_weights(tiny):
    config = tiny(validation=ValidationConfig(every=4, samples=2, crop=32))
    result = train(config)
    run = Path(config.run)
    assert result.step == 8
    assert (run / "recipe.toml").read_text() == write_recipe(config)
    assert [line["step"] for line in lines(run) if "loss" in line] == list(range(1, 9))
    validations = [line for line in lines(run) if "validation/synthetic/psnr" in line]
    assert [line["step"] for line in validations] == [4, 8]
    assert result.score == max(line["validation/synthetic/psnr"] for line in validations)
    assert load_model(run / "best.safetensors").config.size == "small"
    averaged = final_state(run)["ema"]
    assert all(
        torch.equal(averaged[name], tensor)
        for name, tensor in load_model(run / "last.safetensors").state_dict().items()
    )


def test_the_loss_falls(tiny):
    config = tiny(
        40, optimizer=OptimizerConfig(steps=40, batch_size=4, learning_rate=2e-3, warmup_steps=2, clip_norm=5.0)
    )
    train(config)
    losses = [line["loss"] for line in lines(config.run)]
    assert sum(losses[-10:]) < 0.9 * sum(losses[:10])


@pytest.mark.parametrize(
    ("workers", "threads", "teacher", "echoes"),
    [(0, 1, "", 1), (1, 2, "", 1), (1, 2, "small", 1), (1, 2, "small", 2)],  # 3 is amid two echoes
)
def test_a_resumed_run_is_the_uninterrupted_one_to_the_last_bit(tiny, workers, threads, teacher, echoes):
    whole = tiny(compute=ComputeConfig(device="cpu", threads=threads))
    if teacher:
        whole = replace(whole, loss=replace(whole.loss, teacher=0.1), teacher=TeacherConfig(teacher, views=2))
    whole = replace(whole, data=replace(whole.data, workers=workers, echoes=echoes))
    train(whole)
    broken = replace(whole, run=whole.run + "-broken")
    _stop_after(broken, 5)
    assert final_state(broken.run)["counters"]["step"] == 3  # the newest checkpoint is older than the stop
    assert train(broken, resume=True).step == 8
    assert_same(final_state(whole.run), final_state(broken.run))
    assert_same(lines(whole.run), lines(broken.run))


def _stop_after(config, step):
    """Run until a step, then die without any clean-up of the loop's own."""

    class Killed(BaseException):
        pass

    import uprnet.training.loop as loop

    original = loop._Run._step

    def dying(self, number, batches):
        if number == step:
            raise Killed
        original(self, number, batches)

    loop._Run._step = dying
    try:
        with pytest.raises(Killed):
            train(config)
    finally:
        loop._Run._step = original


def test_ctrl_c_writes_a_checkpoint_and_returns(tiny, monkeypatch):
    import uprnet.training.loop as loop

    original = loop._Run._step

    def interrupted(self, number, batches):
        original(self, number, batches)
        if number == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop._Run, "_step", interrupted)
    config = tiny()
    assert train(config).step == 5
    assert final_state(config.run)["counters"]["step"] == 5
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_accumulating_parts_gives_the_gradient_of_the_whole_batch(tiny):
    whole = tiny(3)
    parts = replace(whole, run=whole.run + "-parts", optimizer=replace(whole.optimizer, accumulate=2))
    train(whole), train(parts)
    _assert_close(final_state(whole.run)["ema"], final_state(parts.run)["ema"])
    _assert_equal_norms(whole, parts)


def _assert_close(first, second):
    """Equal but for rounding, which Adam magnifies where a gradient is nearly 0."""
    difference = sum((tensor - second[name]).square().sum() for name, tensor in first.items())
    assert difference.sqrt() < 0.01


def _assert_equal_norms(first, second):
    """AdamW does not care for the scale of gradients: weights alone would not show a wrong one."""
    norms = [[line["gradient_norm"] for line in lines(config.run)] for config in (first, second)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-2)


@pytest.mark.slow
def test_a_signal_to_the_whole_group_writes_a_checkpoint(tiny, tmp_path):
    config = tiny(2000)
    config = replace(config, data=replace(config.data, workers=1))
    (tmp_path / "recipe.toml").write_text(write_recipe(config))
    command = [sys.executable, "-m", "uprnet", "train", str(tmp_path / "recipe.toml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    _wait_for_progress(process, Path(config.run), 0.1)
    os.killpg(process.pid, signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 0, messages
    done = final_state(config.run)["counters"]["step"]
    assert f"{done} steps, best score" in messages


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_same_batch(tiny, tmp_path):
    alone = tiny(10)
    train(alone)
    together = replace(alone, run=alone.run + "-two")
    (tmp_path / "recipe.toml").write_text(write_recipe(together))
    run = subprocess.run(
        _of_two(tmp_path / "recipe.toml"), capture_output=True, text=True, env=TWO, timeout=110, check=False
    )
    assert run.returncode == 0, run.stderr
    _assert_close(final_state(alone.run)["ema"], final_state(together.run)["ema"])
    losses = [[line["loss"] for line in lines(config.run)] for config in (alone, together)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    _assert_equal_norms(alone, together)


@pytest.mark.slow
def test_a_signal_to_two_processes_writes_a_checkpoint(tiny, tmp_path):
    config = tiny(2000)
    config = replace(config, log=replace(config.log, checkpoint_every=2000))
    (tmp_path / "recipe.toml").write_text(write_recipe(config))
    process = subprocess.Popen(_of_two(tmp_path / "recipe.toml"), stderr=subprocess.PIPE, text=True, env=TWO)
    metrics, deadline = Path(config.run) / "metrics.jsonl", time.monotonic() + 60
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.terminate()
    _, messages = process.communicate(timeout=60)
    assert 1 <= final_state(config.run)["counters"]["step"] < 2000, messages


def _free_port():
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return str(server.getsockname()[1])


TWO = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}


def _of_two(recipe):
    """The command of two processes that train together."""
    launcher = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(_free_port())]
    return [sys.executable, "-m", *launcher, "-m", "uprnet", "train", str(recipe)]


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(TrainingError, match=r"divisible by processes x accumulate = 3 x 2, got 32"):
        check_batch(OptimizerConfig(batch_size=32, accumulate=2), 3)


def test_checkpointing_gives_the_same_weights(tiny):
    plain = tiny(2)
    saving = replace(plain, run=plain.run + "-saving", compute=ComputeConfig(device="cpu", checkpointing=True))
    train(plain), train(saving)
    _assert_close(final_state(plain.run)["ema"], final_state(saving.run)["ema"])


def test_the_flow_phase_leaves_synthesis_alone(tiny):
    loss = LossConfig(charbonnier=0, census=0, flow=0.1, matching=0.1, flow_only=True)
    config = tiny(3, network=NetworkConfig(size="small", start="small"), loss=loss)
    train(config)
    before, after = load_model("small").state_dict(), final_state(config.run)["ema"]
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) == name.startswith("synthesis."), name


def test_steps_that_are_not_finite_are_skipped_counted_and_end_the_run(tiny, monkeypatch):
    original = Objective.forward
    calls = iter(range(100))

    def sometimes_infinite(self, batch):
        total, parts = original(self, batch)
        return (total * math.nan, parts) if next(calls) in (2, 3) else (total, parts)

    monkeypatch.setattr(Objective, "forward", sometimes_infinite)
    config = tiny()
    result = train(config)
    assert (result.step, result.bad_steps) == (8, 2)
    assert all(tensor.isfinite().all() for tensor in final_state(config.run)["ema"].values())

    calls = iter([2] * 100)
    hopeless = replace(config, run=config.run + "-nan", optimizer=replace(config.optimizer, max_bad_steps=2))
    with pytest.raises(TrainingError, match="not finite in 2 steps in a row"):
        train(hopeless)
    assert not list((Path(hopeless.run)).rglob("*.pt"))


def test_an_existing_run_is_not_overwritten_and_a_missing_one_not_resumed(tiny):
    config = tiny(1)
    with pytest.raises(TrainingError, match="found none"):
        train(config, resume=True)
    train(config)
    with pytest.raises(TrainingError, match="already holds a run"):
        train(config)


def test_a_checkpoint_of_another_size_is_refused(tiny):
    train(tiny(1))
    with pytest.raises(TrainingError, match="must be of size base, they are small"):
        train(tiny(1, network=NetworkConfig(size="base")), resume=True)


def test_other_parameters_than_those_of_the_checkpoint_are_refused(tiny):
    train(tiny(1))
    with pytest.raises(TrainingError, match="a run can only go on if the same parameters are trained"):
        train(tiny(2, loss=LossConfig(flow=1.0, flow_only=True)), resume=True)


def test_half_precision_that_the_cpu_has_not_is_refused(tiny):
    with pytest.raises(TrainingError, match="precision fp16 needs a GPU"):
        train(tiny(1, compute=ComputeConfig(device="cpu", precision="fp16")))


def test_starting_weights_of_another_size_are_refused(tiny):
    with pytest.raises(TrainingError, match="must be of size base, small is small"):
        train(tiny(1, network=NetworkConfig(size="base", start="small")))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_crop_that_does_not_fit_is_said_in_one_line(tiny, vimeo_tree, workers):
    tree = TripletConfig(str(vimeo_tree(3, "tri_trainlist.txt", samples=20)), 1.0)
    config = tiny(data=DataConfig(crop=64, workers=workers, triplets=tree), loss=LossConfig())
    config = replace(config, network=NetworkConfig(size="small", start="small"))
    with pytest.raises(TrainingError, match=r"^the crop of 64x64 must fit into the images, got images of 48x64$"):
        train(config)


@pytest.mark.slow
def test_bf16_and_channels_last_runs_work(tiny):
    for compute in (ComputeConfig(device="cpu", precision="bf16"), ComputeConfig(device="cpu", channels_last=True)):
        config = tiny(2, compute=compute)
        config = replace(config, run=f"{config.run}-{compute.precision}-{compute.channels_last}")
        assert train(config).bad_steps == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_moments_twenty_times_the_end_is_the_same(tiny, tmp_path):
    whole = tiny(120)
    whole = replace(whole, log=replace(whole.log, checkpoint_every=1), data=replace(whole.data, workers=1))
    train(whole)
    killed = replace(whole, run=whole.run + "-killed")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(write_recipe(killed))
    rng = random.Random(0)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    while True:
        command = [sys.executable, "-m", "uprnet", "train", str(recipe)]
        if CheckpointFolder(Path(killed.run) / "checkpoints", 3).exists():
            command.append("--resume")
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment, start_new_session=True)
        if kills < 20:
            _wait_for_progress(process, Path(killed.run), rng.uniform(0, 0.4))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            continue
        assert process.wait(timeout=300) == 0
        break
    assert_same(final_state(whole.run), final_state(killed.run))
    assert_same(lines(whole.run), lines(killed.run))


def _wait_for_progress(process, run, seconds):
    """Wait until the process has written something new, then a little longer."""
    before = _newest(run)
    deadline = time.monotonic() + 60
    while _newest(run) == before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(seconds)


def _newest(run):
    return max((path.name for path in run.glob("checkpoints/step-*.pt")), default="")
