"""Several processes on one benchmark."""

import json
import subprocess
import sys

import pytest

from uprnet.errors import InvalidInputError
from uprnet.evaluation.benchmark import BenchmarkOptions, run_benchmark
from uprnet.evaluation.processes import Processes, joined
from uprnet.options import NetworkOptions

PROGRAM = """
import sys
from pathlib import Path
from uprnet.evaluation.benchmark import BenchmarkOptions, run_benchmark
from uprnet.evaluation.processes import Processes
from uprnet.options import NetworkOptions

root, folder = map(Path, sys.argv[1:])
small = NetworkOptions(model="small", device="cpu")
report = run_benchmark(BenchmarkOptions("septuplet", root, small, results=folder / "kept"))
report.write_json(folder / f"{Processes.from_environment().rank}.json")
"""


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_each_item_is_measured_by_one_process(count):
    items = list(range(7))
    shares = [Processes(rank, count).share(items) for rank in range(count)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_alone_needs_no_group(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined() as processes, processes.main_first():
        assert processes == Processes(0, 1, 0)
        assert processes.gather("found") == ["found"]
        assert processes.device("auto") == "auto"


def test_what_torchrun_says_is_read(monkeypatch):
    for name, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert Processes.from_environment() == Processes(3, 4, 1)
    assert not Processes.from_environment().is_main
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InvalidInputError, match="must be whole numbers"):
        Processes.from_environment()


@pytest.mark.parametrize(
    ("rank", "count", "text"),
    [
        (0, 2, r"RANK is 0 of 2, but there is nobody to join .*MASTER_ADDR.*; use torchrun"),
        (1, 1, "RANK must be from 0 to WORLD_SIZE - 1, got 1 of 1"),
        (-1, 2, "RANK must be from 0 to WORLD_SIZE - 1, got -1 of 2"),
    ],
)
def test_what_another_launcher_left_behind_is_told(rank, count, text, monkeypatch):
    for name, value in {"RANK": rank, "WORLD_SIZE": count}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInputError, match=text), joined():
        pass


@pytest.mark.slow
def test_torchrun_counts_each_item_once(make_tree, tmp_path):
    root, program = make_tree("septuplet"), tmp_path / "program.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, str(program), str(root), str(tmp_path)], check=True, capture_output=True)
    alone = run_benchmark(BenchmarkOptions("septuplet", root, NetworkOptions(model="small", device="cpu"))).as_dict()
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert [(r["item"], r["t"]) for r in found["results"]] == [(r["item"], r["t"]) for r in alone["results"]]
        for one, other in zip(found["results"], alone["results"], strict=True):
            assert one["scores"] == pytest.approx(other["scores"], abs=1e-3)
