"""The command line: parse, call one library function, print.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 1 could not be done (one line says why), 2 wrong
usage, 130 interrupted, 143 terminated. Nothing here imports torch before a command needs it, so that ``--help`` is
quick.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App, CycloptsError
from rich.logging import RichHandler
from rich.table import Table

from uprnet import __version__
from uprnet.console import Network, Output, Overwrite, complain, progress_bar, stderr, stdout
from uprnet.errors import InvalidInputError, UprnetError
from uprnet.options import NetworkOptions
from uprnet.training.recipe_file import apply_recipe

#: Images that one command makes between two; more would be a video.
MOST_IMAGES = 10_000

app = App(
    name="uprnet",
    help="Make frames between frames: slow motion, 24 to 60 fps, a missing frame. UPR-Net (CVPR 2023).",
    version=__version__,
    suppress_keyboard_interrupt=False,
)

app.command(
    "uprnet.pipeline.commands:video", help="Make more frames for a video, a folder of videos or of numbered images."
)
app.command("uprnet.training.commands:train", config=apply_recipe, help="Train a network as a recipe says.")
app.command("uprnet.training.commands:synth", help="Show what the generator of synthetic motion makes.")
app.command("uprnet.training.commands:widen", help="Make a larger network that computes the same frames.")
app.command("uprnet.training.commands:average", help="Average the weights of several networks.")
app.command("uprnet.evaluation.commands:benchmark", help="Measure quality: on data sets, or on your own videos.")
app.command("uprnet.evaluation.commands:runtime", help="Time the network.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    # Before torch is imported: threads that wait asleep cost nothing on a quiet machine, and on a busy one a frame
    # takes a quarter of the time that it takes with threads that spin.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that it cannot write must not end in an error
        is_utf8 = sys.stdout.encoding.lower() in ("utf-8", "utf8")
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
    if stderr.is_terminal:
        handler: logging.Handler = RichHandler(console=stderr, show_time=False, show_path=False, markup=False)
    else:  # a file or a pipe: one line stays one line
        handler = logging.StreamHandler(sys.stderr)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value", error_console=stderr)
    except CycloptsError as error:
        complain(str(error), "See uprnet --help.")
        return 2
    except UprnetError as error:
        complain(str(error))
        return 1
    except OSError as error:  # of a disk or network that went away, where nobody expected it
        complain(str(error))
        return 1
    except KeyboardInterrupt as error:
        complain(str(error) or "interrupted")
        return 143 if isinstance(error, Terminated) else 130
    return 0


class Terminated(KeyboardInterrupt):
    """Somebody asked the process to end (SIGTERM): all is cleaned up as with Ctrl-C."""


def _terminate(*_: object) -> None:
    raise Terminated


@app.command
def image(
    img0: Path,
    img1: Path,
    *,
    output: Output,
    t: float | None = None,
    times: str | None = None,
    count: int | None = None,
    show: Path | None = None,
    network: Network = NetworkOptions(),  # noqa: B008 (it is frozen)
    overwrite: Overwrite = False,
) -> None:
    """Make one or more images between two images: 8 or 16 bit PNG, TIFF, JPEG, WebP, or OpenEXR, with or without alpha.

    Args:
        img0: The image at time 0.
        img1: The image at time 1.
        output: The image to write; several are numbered: mid-1.png, mid-2.png, ...
        t: The time of the new image, from 0 to 1; 0.5 is the middle, and the default.
        times: Several times, such as 0.25,0.5,0.75.
        count: This many new images, evenly spaced: 3 means 0.25, 0.5, 0.75.
        show: Also write flow, masks and a sheet to this new folder.
        network: The network.
        overwrite: Replace files that are there.
    """
    from uprnet.pipeline.images import interpolate_images

    moments = _times(t, times, count)
    written = interpolate_images(
        img0, img1, output, moments, overwrite=overwrite, interpolator=network.interpolator(), show=show
    )
    for path in written:
        stdout.print(path)


@app.command
def convert(official: Path, *, output: Output, overwrite: Overwrite = False) -> None:
    """Convert an official UPR-Net checkpoint (.pkl) to a .safetensors file.

    Args:
        official: The checkpoint, as downloaded (base, large or LARGE).
        output: The .safetensors file to write.
        overwrite: Replace a file that is there.
    """
    from uprnet.network.weights import load_model, save_model

    save_model(load_model(official), output, {"converted_from": official.name}, overwrite=overwrite)
    stdout.print(output)


@app.command
def info() -> None:
    """Show versions, devices, kernels and the weights that are inside."""
    from uprnet.about import facts

    table = Table(show_header=False, box=None)
    for name, value in facts().items():
        table.add_row(name, value)
    stdout.print(table)


@app.command
def demo(
    *,
    output: Output = Path("demo-output"),
    network: Network = NetworkOptions(),  # noqa: B008 (it is frozen)
    overwrite: Overwrite = False,
) -> None:
    """Double the frame rate of the clip that comes with uprnet, and draw a sheet of one new frame.

    Args:
        output: A folder that is not there yet, or is empty.
        network: The network.
        overwrite: Replace the files of an earlier demo.
    """
    from uprnet.demo import make_demo

    with progress_bar() as report:
        written = make_demo(output, network.interpolator(), report, overwrite=overwrite)
    for path in written:
        stdout.print(path)


def _times(t: float | None, times: str | None, count: int | None) -> list[float]:
    """Return the times that exactly one of the three options asks for; 0.5 if none does."""
    if sum(option is not None for option in (t, times, count)) > 1:
        raise InvalidInputError("--t, --times and --count exclude each other; give one of them")
    if times is not None:
        try:
            return [float(part) for part in times.split(",")]
        except ValueError:
            raise InvalidInputError(f"--times must be numbers with commas, such as 0.25,0.5, got {times!r}") from None
    if count is not None:
        if not 1 <= count <= MOST_IMAGES:
            raise InvalidInputError(f"--count must be from 1 to {MOST_IMAGES}, got {count}; for more, make a video")
        return [number / (count + 1) for number in range(1, count + 1)]
    return [0.5 if t is None else t]
