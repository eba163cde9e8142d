"""The command line, as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from uprnet import UPRNet, __version__
from uprnet.cli import main
from uprnet.media.images import read_image, write_image
from uprnet.media.video import VideoReader
from uprnet.network.config import ModelConfig
from uprnet.network.weights import load_model, save_model, weights_path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, holding a.png and b.png: a picture and the same moved."""
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[0:48, 0:70]
    picture = (np.stack([127 + 100 * np.sin(x / 5) * np.cos(y / c) for c in (5, 6, 7)], axis=-1)).astype(np.uint8)
    write_image(tmp_path / "a.png", np.ascontiguousarray(picture[:, 6:]))
    write_image(tmp_path / "b.png", np.ascontiguousarray(picture[:, :-6]))
    return tmp_path


def said(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    captured = capsys.readouterr()
    return captured.out, captured.err


def refused(capsys: pytest.CaptureFixture[str], command: str, message: str, code: int = 1) -> None:
    """The command must end with ``code`` and one line that holds ``message``, and leave no file behind."""
    before = {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")}
    assert main(command.split()) == code
    _, error = said(capsys)
    lines = [line for line in error.splitlines() if line and not line.startswith("See ")]
    assert len(lines) == 1
    assert lines[0].startswith("uprnet: error: ")
    assert message in lines[0]
    assert {path: path.stat().st_mtime_ns for path in Path.cwd().rglob("*")} == before


def test_help_names_every_command_and_imports_no_torch():
    script = "import sys; from uprnet.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("image", "video", "convert", "info", "demo"):
        assert command in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert said(capsys)[0].strip() == __version__


def test_program_and_module_are_installed():
    for command in ([str(Path(sys.executable).with_name("uprnet"))], [sys.executable, "-m", "uprnet"]):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == __version__


def test_interruption_before_the_command_line_is_there_is_no_traceback():
    script = (
        "import sys, uprnet.__main__ as program\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'uprnet.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        "program.run()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")


def test_image(here: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["image", "a.png", "b.png", "-o", "mid.png", "--model", "small"]) == 0
    assert said(capsys)[0].strip() == "mid.png"
    assert read_image(here / "mid.png").pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ("--t 0.25", ["m.png"]),
        ("--times 0.25,0.5", ["m-1.png", "m-2.png"]),
        ("--count 3", [f"m-{i}.png" for i in (1, 2, 3)]),
    ],
)
def test_image_at_other_times(here: Path, capsys: pytest.CaptureFixture[str], option: str, names: list[str]):
    assert main(f"image a.png b.png -o m.png --model small {option}".split()) == 0
    assert said(capsys)[0].split() == names
    assert sorted(path.name for path in here.glob("m*")) == names


def test_every_network_option_reaches_the_interpolator(monkeypatch: pytest.MonkeyPatch):
    class AskedError(Exception):
        pass

    def record(model: str, device: str, **rest: object) -> None:
        raise AskedError({"model": model, "device": device, **rest})

    monkeypatch.setattr("uprnet.interpolate.Interpolator", record)
    options = "--model small --device cpu --engine torch --precision bf16 --memory 1GiB --compile"
    with pytest.raises(AskedError) as asked:
        main(f"image a.png b.png -o m.png {options}".split())
    assert asked.value.args[0] == {
        "model": "small",
        "device": "cpu",
        "engine": "torch",
        "precision": "bf16",
        "memory": "1GiB",
        "compile": True,
    }


def test_commands_of_training(here: Path):
    assert main(["synth", "--preview", "s.png", "--rows", "1", "--size", "48"]) == 0
    assert read_image(here / "s.png").pixels.shape[0] >= 48
    assert main(["widen", "small", "--to", "base", "-o", "w.safetensors"]) == 0
    assert load_model("w.safetensors").config == ModelConfig.from_size("base")
    command = "average w.safetensors base --shares 3,1 --boxes encoder --half -o m.safetensors"
    assert main(command.split()) == 0
    wide, base, mean = (load_model(name).state_dict() for name in ("w.safetensors", "base", "m.safetensors"))
    for name, weight in mean.items():
        share = 0.75 if name.startswith("encoder") else 1.0
        assert torch.allclose(weight, share * wide[name] + (1 - share) * base[name], rtol=1e-3, atol=1e-4), name
    assert (here / "m.safetensors").stat().st_size < 0.6 * (here / "w.safetensors").stat().st_size


def test_commands_of_evaluation(here: Path, capsys: pytest.CaptureFixture[str]):
    (here / "set" / "one").mkdir(parents=True)
    for index, name in enumerate(("a", "a", "b"), 1):
        (here / "set" / "one" / f"im{index}.png").write_bytes((here / f"{name}.png").read_bytes())
    command = "benchmark triplets set --model small --device cpu --json b.json --csv b.csv --save-worst 1 worst"
    assert main(command.split()) == 0
    assert "psnr" in said(capsys)[0].lower()
    assert json.loads((here / "b.json").read_text())["means"][0]["scores"]["psnr_rounded"] > 10
    assert (here / "b.csv").read_text().count("\n") >= 2
    assert len(list((here / "worst").rglob("*.png"))) >= 1
    command = "runtime --size 32x48 --model small --times 1 --repeats 1 --warmup 0 --device cpu --json r.json"
    assert main(command.split()) == 0
    assert json.loads((here / "r.json").read_text())
    said(capsys)
    assert main(["runtime", "--size", "48", "--model", "small"]) == 1
    assert "--size must be height x width, such as 480x640, got '48'" in said(capsys)[1]
    assert main(["runtime", "--times", "1,2\N{SUPERSCRIPT TWO}"]) == 1
    assert "--times must be numbers with commas, such as 1,7, got '1,2" in said(capsys)[1]


@pytest.mark.usefixtures("here")
def test_names_in_brackets_are_names(capsys: pytest.CaptureFixture[str]):
    assert main(["benchmark", "video", "[uncut].mkv"]) == 1
    assert "[uncut].mkv" in said(capsys)[1]
    assert main(["runtime", "--model", "[mine].safetensors"]) == 1
    assert "no weights file [mine].safetensors" in said(capsys)[1]


def test_names_are_whole_in_tables(here: Path, capsys: pytest.CaptureFixture[str]):
    names = ["[uncut]one", "a-clip-with-a-name-that-is-longer-than-the-lines-of-most-terminals-are"]
    for clip in names:
        (here / "set" / f"{clip}_1").mkdir(parents=True)
        for index, name in enumerate(("a", "a", "b"), 1):
            (here / "set" / f"{clip}_1" / f"im{index}.png").write_bytes((here / f"{name}.png").read_bytes())
    (here / "[mine].safetensors").write_bytes(weights_path("small").read_bytes())
    assert main(["benchmark", "triplets", "set", "--model", "[mine].safetensors", "--device", "cpu"]) == 0
    shown = said(capsys)[0]
    assert all(name in shown for name in [*names, "[mine].safetensors"])
    assert "…" not in shown


def test_image_show(here: Path):
    assert main(["image", "a.png", "b.png", "-o", "mid.png", "--model", "small", "--show", "shown"]) == 0
    names = {path.stem for path in (here / "shown").iterdir()}
    assert names == {"overlay", "flow-01", "flow-10", "mask0-1", "mask1-1", "sheet-1"}
    overlay = read_image(here / "shown" / "overlay.png").pixels
    mean = (read_image(here / "a.png").pixels.astype(float) + read_image(here / "b.png").pixels) / 2
    assert np.abs(overlay - mean).max() <= 1
    assert read_image(here / "shown" / "sheet-1.png").pixels.shape[1] == 3 * 64


def test_image_show_of_light_beyond_white(here: Path):
    for name in ("a", "b"):
        write_image(here / f"{name}.exr", read_image(here / f"{name}.png").pixels.astype(np.float32) / 40)
    assert main(["image", "a.exr", "b.exr", "-o", "mid.exr", "--model", "small", "--show", "shown"]) == 0
    assert read_image(here / "shown" / "sheet-1.png").pixels.shape[1] == 3 * 64


@pytest.mark.parametrize("ending", [".png", ".tiff", ".webp", ".jpg"])
def test_image_formats(here: Path, ending: str):
    assert main(f"image a.png b.png -o mid{ending} --model small".split()) == 0
    assert read_image(here / f"mid{ending}").pixels.shape == (48, 64, 3)


def test_sixteen_bits_and_alpha_come_through(here: Path):
    for name in ("a", "b"):
        pixels = read_image(here / f"{name}.png").pixels
        alpha = np.full((48, 64, 1), 255, np.uint8)
        write_image(here / f"{name}16.png", np.concatenate([pixels, alpha], axis=2).astype(np.uint16) * 257)
    assert main(["image", "a16.png", "b16.png", "-o", "mid.png", "--model", "small"]) == 0
    middle = read_image(here / "mid.png").pixels
    assert middle.dtype == np.uint16
    assert middle.shape == (48, 64, 4)
    assert (middle[..., 3] == 65535).all()


def test_greyscale_is_converted_and_said(here: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("a", "b"):
        cv2.imwrite(f"{name}-grey.png", cv2.imread(f"{name}.png", cv2.IMREAD_GRAYSCALE))
    assert main(["image", "a-grey.png", "b-grey.png", "-o", "mid.png", "--model", "small"]) == 0
    assert "greyscale, converted to RGB" in said(capsys)[1]
    assert read_image(here / "mid.png").pixels.shape == (48, 64, 3)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("image a.png none.png -o mid.png", "there is no file none.png"),
        ("image a.png b.png -o mid.xyz", "must end in one of"),
        ("image a.png b.png -o mid", "has no ending"),
        ("image a.png b.png -o none/mid.png", "output folder none does not exist"),
        ("image a.png b.png -o a.png", "a.png already exists"),
        ("image a.png b.png -o mid.png --t 1.5", "in [0, 1]"),
        ("image a.png b.png -o mid.png --times 0.5,x", "numbers with commas"),
        ("image a.png b.png -o mid.png --count 0", "--count must be from 1 to 10000, got 0"),
        ("image a.png b.png -o mid.png --count 10001", "got 10001; for more, make a video"),
        ("image a.png b.png -o mid.png --show a.png", "a.png is a file; a folder was expected"),
        ("image a.png b.png -o mid.png --t 0.5 --count 2", "exclude each other"),
        ("image a.png b.png -o mid.png --model none.pkl", "no weights file none.pkl"),
        ("image a.png b.png -o mid.png --model large", "no weights of size large"),
        ("image a.png b.png -o mid.png --device quantum", "device must be"),
        ("video none.mp4 -o out.mp4", "none.mp4"),
        ("video a.png -o out.xyz", "must end in one of"),
        ("convert a.png -o mine.safetensors", "neither safetensors nor a PyTorch checkpoint"),
    ],
)
def test_mistakes_are_said_in_one_line(capsys: pytest.CaptureFixture[str], command: str, message: str):
    refused(capsys, command, message)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "command", ["bogus", "image a.png", "image a.png b.png -o mid.png --speed 3", "image a b -o c --t x"]
)
def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], command: str):
    refused(capsys, command, "", code=2)


def test_images_of_different_size_are_refused(here: Path, capsys: pytest.CaptureFixture[str]):
    write_image(here / "c.png", np.zeros((48, 60, 3), np.uint8))
    refused(capsys, "image a.png c.png -o mid.png --model small", "same size")


def test_tiny_images_are_refused(here: Path, capsys: pytest.CaptureFixture[str]):
    write_image(here / "c.png", np.zeros((1, 1, 3), np.uint8))
    refused(capsys, "image c.png c.png -o mid.png --model small", "at least 16 x 16 pixels, got (1, 1)")


def test_overwrite_when_asked(here: Path):
    assert main(["image", "a.png", "b.png", "-o", "a.png", "--model", "small", "--overwrite"]) == 0
    assert read_image(here / "a.png").pixels.shape == (48, 64, 3)


@pytest.mark.usefixtures("here")
def test_video(make_clip: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    clip = make_clip("in.mp4", range(6), audio="aac")
    assert main(["video", str(clip), "-o", "out.mp4", "--model", "small"]) == 0
    out, error = said(capsys)
    assert out.strip() == "out.mp4"
    assert "12 frames, 0.200 s: 5 new, 7 of the source's own" in error
    with VideoReader(Path("out.mp4")) as reader:
        assert reader.info.rate == 60
        assert len(reader.info.audio) == 1
        assert len(list(reader)) == 12


@pytest.mark.usefixtures("here")
def test_video_to_folder_at_another_rate(make_clip: Callable[..., Path]):
    clip = make_clip("in.mp4", range(6))
    assert main(["video", str(clip), "-o", "frames", "--fps", "45", "--model", "small"]) == 0
    assert len(list(Path("frames").glob("*.png"))) == 9


@pytest.mark.usefixtures("here")
def test_slow_motion_says_that_the_sound_is_dropped(make_clip: Callable[..., Path], capsys: pytest.CaptureFixture[str]):
    clip = make_clip("in.mp4", range(4), audio="aac")
    assert main(["video", str(clip), "-o", "slow.mp4", "--slow", "3", "--model", "small"]) == 0
    assert "left out: time runs slower; --slow-audio stretches it" in said(capsys)[1]
    with VideoReader(Path("slow.mp4")) as reader:
        assert reader.info.rate == 30
        assert len(list(reader)) == 12


@pytest.mark.usefixtures("here")
def test_convert_and_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_model(UPRNet(ModelConfig(4)), tmp_path / "tiny.safetensors")
    assert main(["convert", "tiny.safetensors", "-o", "again.safetensors"]) == 0
    assert said(capsys)[0].strip() == "again.safetensors"
    assert main(["image", "a.png", "b.png", "-o", "mid.png", "--model", "again.safetensors"]) == 0


def test_info(capsys: pytest.CaptureFixture[str]):
    assert main(["info"]) == 0
    out, _ = said(capsys)
    for name in ("uprnet", "torch", "device", "kernels", "weights base", "1,653,961 parameters", "dB"):
        assert name in out
