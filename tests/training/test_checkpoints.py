"""Checkpoints are whole or not there."""

import logging
import os
import signal
import subprocess
import sys

import pytest
import torch

from uprnet.errors import MediaError, TrainingError
from uprnet.training.checkpoints import CheckpointFolder, only_process


def state(step):
    return {"step": step, "weights": {"a": torch.full((1000,), float(step))}}


def test_the_newest_is_read_and_the_last_few_are_kept(tmp_path):
    folder = CheckpointFolder(tmp_path / "run" / "checkpoints", keep=2)
    assert not folder.exists()
    for step in (9, 10, 200):
        folder.save(step, state(step))
    assert folder.latest()["step"] == 200
    assert sorted(path.name for path in folder.folder.iterdir()) == ["step-00000010.pt", "step-00000200.pt"]


@pytest.mark.parametrize("left", [0, 10, 1000])
def test_a_damaged_one_is_passed_over(tmp_path, caplog, left):
    folder = CheckpointFolder(tmp_path, keep=3)
    for step in (1, 2):
        folder.save(step, state(step))
    newest = tmp_path / "step-00000002.pt"
    newest.write_bytes(newest.read_bytes()[:left])
    with caplog.at_level(logging.WARNING):
        assert folder.latest()["step"] == 1
    assert "step-00000002.pt is damaged" in caplog.text


def test_what_a_killed_writer_left_is_not_read_and_is_removed(tmp_path):
    folder = CheckpointFolder(tmp_path, keep=3)
    folder.save(1, state(1))
    leftover = tmp_path / ".step-00000002.0123abcd.part.pt"
    leftover.write_bytes(b"half a checkpoint")
    assert folder.latest()["step"] == 1
    folder.save(3, state(3))
    assert not leftover.exists()


def test_a_failed_write_leaves_the_old_ones(tmp_path, monkeypatch):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(1, state(1))

    def full_disk(_, path):
        path.write_bytes(b"half")
        raise OSError(5, "broken disk")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(MediaError, match=r"cannot write .*: broken disk"):
        folder.save(2, state(2))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(TrainingError, match="must hold a checkpoint to resume from, found none"):
        CheckpointFolder(tmp_path, 1).latest()


def test_a_second_process_is_kept_out_of_a_run(tmp_path):
    pytest.importorskip("fcntl")
    refused = pytest.raises(TrainingError, match="another process is training in")
    with only_process(tmp_path / "run"), refused, only_process(tmp_path / "run"):
        pass
    with only_process(tmp_path / "run"):
        pass


HOLDER = """
import os, sys, time
from pathlib import Path
from uprnet.training.checkpoints import only_process

with only_process(Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""


def test_a_worker_that_outlives_a_killed_run_does_not_keep_others_out(tmp_path):
    pytest.importorskip("fcntl")
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        worker = int(holder.stdout.readline())
        try:
            with pytest.raises(TrainingError, match="another process is training in"), only_process(tmp_path / "run"):
                pass
            holder.kill()
            holder.wait()
            with only_process(tmp_path / "run"):
                os.kill(worker, 0)  # it is still there
        finally:
            os.kill(worker, signal.SIGKILL)
