"""Float images: linear light without limits, brought to the range in which pictures can be compared, and back.

A network sees values in [0, 1] that look as on a display. Light in a scene has no upper limit, and filters and wide
gamuts make it negative. Both images of a pair go through one curve that can be reversed, so that nothing is cut off.

Convention:
    Images are ``(H, W, 3)`` or ``(H, W, 4)``, float16 or float32; colours are linear light, 1 is white, and values
    below 0 and above 1 have their meaning. Alpha stays as it is.
"""

from collections.abc import Callable

import numpy as np

from uprnet.media.colour import Image

SLOPE = 10
"""Steepness at black: with 10, middle grey (0.18) comes to 0.45 of white, where sRGB has it."""

INFINITE = 65504.0
"""What stands for infinite light: the largest half float."""

LARGEST = 1e30
"""Light beyond which float32 would overflow under way."""


def as_displayed(img0: Image, img1: Image) -> tuple[Image, Image, Callable[[Image], Image]]:
    """Bring two images of linear light to [0, 1] by ``asinh(SLOPE * x)``, scaled to what both of them hold.

    The scale reaches from 0 to 1 at least. Values that are no numbers become 0, infinite ones `INFINITE`.

    Args:
        img0: The first image.
        img1: The second one, of the same size and type.

    Returns:
        Both images as float32, and the function that brings such an image back to linear light and the type that it
        had.

    Example:
        >>> light = np.full((1, 1, 3), 4.0, np.float32)
        >>> seen, _, back = as_displayed(light, light)
        >>> float(seen.max()), float(back(seen).max())
        (1.0, 4.0)
    """
    kind = img0.dtype
    light = [
        np.clip(np.nan_to_num(image.astype(np.float32), posinf=INFINITE, neginf=-INFINITE), -LARGEST, LARGEST)
        for image in (img0, img1)
    ]
    low = min(0.0, *(float(image[..., :3].min()) for image in light))
    high = max(1.0, *(float(image[..., :3].max()) for image in light))
    bottom = float(np.arcsinh(SLOPE * low))
    span = float(np.arcsinh(SLOPE * high)) - bottom

    def forth(image: Image) -> Image:
        colours = np.clip((np.arcsinh(SLOPE * image[..., :3]) - bottom) / span, 0, 1)
        return np.concatenate([colours, np.clip(image[..., 3:], 0, 1)], axis=-1, dtype=np.float32)

    def back(image: Image) -> Image:
        colours = np.clip(np.sinh(image[..., :3] * span + bottom) / SLOPE, low, high)
        limit = np.finfo(kind).max
        light = np.clip(np.concatenate([colours, image[..., 3:]], axis=-1), -limit, limit)
        return np.asarray(light, kind)

    return forth(light[0]), forth(light[1]), back
