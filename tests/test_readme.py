"""Every command and the example of the README, run as they stand there; those of the other documents are parsed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from uprnet.cli import app, main
from uprnet.media.images import write_image

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = [
    line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines() if line.startswith("$")
]


def test_there_are_commands_and_examples():
    assert len(COMMANDS) >= 3
    assert len(blocks("python")) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, tmp_path: Path, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, np.full((32, 48, 3), 99, np.uint8))
    make_clip("clip.mp4", range(4), height=32, width=48)
    program, *arguments = shlex.split(command)
    assert program == "uprnet"
    assert main(arguments) == 0
    assert (tmp_path / arguments[arguments.index("-o") + 1]).stat().st_size > 0


def commands_of_documents() -> list[str]:
    texts = [path.read_text() for path in (*sorted(ROOT.glob("docs/*.md")), ROOT / "recipes" / "README.md")]
    found = [
        command for text in texts for command in re.findall(r"(?:^    |`)uprnet (\w+ [^`\n]+)", text, re.MULTILINE)
    ]
    return sorted(set(found))


@pytest.mark.parametrize("command", commands_of_documents())
def test_command_of_a_document_is_understood(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    app.parse_args(shlex.split(command), print_error=False, exit_on_error=False)


def test_python_example():
    names: dict[str, object] = {}
    exec(blocks("python")[0].replace("480, 640", "32, 48"), names)
    middle = names["middle"]
    assert isinstance(middle, np.ndarray)
    assert middle.shape == (32, 48, 3)


def test_make_targets_exist():
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    targets = {line.split()[1] for block in blocks("sh") for line in block.splitlines() if line.startswith("make ")}
    assert targets
    for target in targets:
        subprocess.run([make, "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
