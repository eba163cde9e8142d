"""Pictures of how a new frame came about: the inputs laid over each other, flow, masks, and a sheet of all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import flow_vis
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from uprnet.interpolate import Interpolator
from uprnet.media.images import encode_image

Picture = NDArray[np.uint8]

#: Height in pixels of the line of text above each picture of a sheet.
LABEL_HEIGHT = 24

#: Pictures side by side on a sheet.
COLUMNS = 3


def explain(
    interpolator: Interpolator, img0: NDArray[Any], img1: NDArray[Any], times: Sequence[float]
) -> dict[str, Picture]:
    """Draw what the network saw and did, as named pictures ``(H, W, 3)``.

    ``overlay`` is the mean of the inputs, ``flow-01`` and ``flow-10`` the motion as a colour wheel (hue is direction,
    saturation is speed, both to one scale). For time number N there are ``mask0-N`` and ``mask1-N`` (white is trust),
    and ``sheet-N`` puts all side by side.

    Args:
        interpolator: What makes the frames.
        img0: First image, ``(H, W, 3 or 4)``.
        img1: Second image, like ``img0``.
        times: Times in [0, 1].
    """
    pair = interpolator.pair(img0, img1)
    flow_01, flow_10 = (flow[0].permute(1, 2, 0).cpu().numpy() for flow in pair.flow())
    first, second = as_picture(img0), as_picture(img1)
    overlay = as_picture((first.astype(np.float32) + second) / 510)
    colours_01, colours_10 = flow_pictures(flow_01, flow_10)
    pictures = {"overlay": overlay, "flow-01": colours_01, "flow-10": colours_10}
    for number, t in enumerate(times, 1):
        cells = {"img0, t = 0": first, f"new frame, t = {t:g}": as_picture(pair.frame(t)), "img1, t = 1": second}
        cells |= {"overlay": overlay, "flow 0 to 1": colours_01, "flow 1 to 0": colours_10}
        if 0 < t < 1:
            synthesis = pair.synthesis(t)
            mask0, mask1 = _grey(synthesis.mask0), _grey(synthesis.mask1)
            pictures |= {f"mask0-{number}": mask0, f"mask1-{number}": mask1}
            cells |= {"trust in img0": mask0, "trust in img1": mask1, "residual": _grey(synthesis.raw[:, :3])}
        pictures[f"sheet-{number}"] = sheet(cells)
    return pictures


def write_pictures(pictures: dict[str, Picture], folder: Path) -> None:
    """Write each picture to ``folder`` under its name, as PNG."""
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(encode_image(".png", picture))


def flow_pictures(*flows: NDArray[np.float32]) -> list[Picture]:
    """Colour flows ``(H, W, 2)`` on one common scale, so that equal colours mean equal motion.

    Reference:
        Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011 (the colour wheel).
    """
    fastest = max(float(np.linalg.norm(flow, axis=-1).max()) for flow in flows)
    unit = [flow / max(fastest, 1e-5) for flow in flows]
    return [flow_vis.flow_uv_to_colors(flow[..., 0], flow[..., 1]) for flow in unit]


def sheet(cells: dict[str, Picture], columns: int = COLUMNS) -> Picture:
    """Put pictures of one size ``(H, W, 3)`` side by side, each under its name."""
    labelled = [_labelled(name, picture) for name, picture in cells.items()]
    labelled += [np.full_like(labelled[0], 255)] * (-len(labelled) % columns)
    rows = [np.hstack(labelled[start : start + columns]) for start in range(0, len(labelled), columns)]
    return np.vstack(rows)


def as_picture(image: NDArray[Any]) -> Picture:
    """Bring an image of any supported type to ``(H, W, 3)`` uint8; alpha is left out."""
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    picture: Picture = np.rint(image[..., :3].astype(np.float32) * (255 / white)).clip(0, 255).astype(np.uint8)
    return picture


def _grey(plane: Tensor) -> Picture:
    """Turn ``(1, 1 or 3, H, W)`` in [0, 1] into a picture."""
    values = plane[0].expand(3, -1, -1).permute(1, 2, 0).clamp(0, 1).cpu().numpy()
    return as_picture(values)


def _labelled(name: str, picture: Picture) -> Picture:
    label = np.full((LABEL_HEIGHT, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(label, name, (6, LABEL_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([label, picture])
