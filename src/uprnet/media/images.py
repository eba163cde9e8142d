"""Read and write still images, and list folders of numbered ones.

Convention:
    Pixels are ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB and alpha, not premultiplied; uint8 or uint16 as in the file,
    upright as its EXIF orientation asks. Those of OpenEXR files are float16 or float32: linear light, in which 1 is
    white and nothing limits the values.
"""

import logging
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from uprnet.errors import InvalidInputError, MediaError
from uprnet.media.colour import Image, with_bits
from uprnet.media.exr import decode_exr, encode_exr
from uprnet.media.output import check_file, complete_file

logger = logging.getLogger(__name__)

ENDINGS = (".exr", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""File endings that are read and written."""

FLOAT = ".exr"
"""Ending of the one kind of file for float samples; it holds no others."""

WITHOUT_ALPHA = (".jpeg", ".jpg")
ONLY_8_BIT = (".jpeg", ".jpg", ".webp")

JPEG_QUALITY = 95
"""Of 100: no visible loss; OpenCV's default."""

WEBP_LOSSLESS = 101
"""OpenCV encodes WebP without loss above quality 100."""

_PNG_COLOUR_TYPE = 25
"""Byte offset of the colour type in a PNG file (PNG specification, 11.2.2); 3 is a palette."""

_EXR = b"v/1\x01"
"""First bytes of an OpenEXR file (OpenEXR file layout, "magic number")."""

_EXIF_MARKERS = {b"Exif\0\0": 6, b"eXIf": 4, b"EXIF": 8}
"""What precedes the EXIF block in JPEG, PNG and WebP, and how many bytes before the block it starts."""

_TIFF_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
"""First bytes of a TIFF file and of an EXIF block, and the byte order that they announce (TIFF 6.0, section 2)."""

_ORIENTATION = 0x112
"""EXIF tag of the orientation, 1 (upright) to 8 (EXIF 2.32, 4.6.4)."""

_SAMPLES_PER_PIXEL = 0x115
_ICC_PROFILE = 0x8773
"""TIFF tags (TIFF 6.0, section 8; ICC.1:2010, B.4)."""


@dataclass(frozen=True)
class Picture:
    """A decoded image.

    Attributes:
        pixels: ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; uint8, uint16, or float16 or float32 of an OpenEXR file.
        note: What had to be converted, such as ``greyscale, converted to RGB``; empty if nothing.
    """

    pixels: Image
    note: str = ""


def read_image(path: Path) -> Picture:
    """Read an image with 8 or 16 bits per sample, PNG, TIFF, JPEG or WebP, or one of floats, OpenEXR.

    Greyscale and palette become RGB. Of a file with several pictures it is the first.

    Raises:
        MediaError: If there is no such file, it is no image, it is cut off, or its samples are not 8 or 16 bits.

    Example:
        >>> read_image(Path("frame.png")).pixels.shape  # doctest: +SKIP
        (480, 640, 3)
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise MediaError(f"there is no file {path}") from error
    except OSError as error:
        raise MediaError(f"cannot read {path}: {error.strerror}") from error
    is_exr = data.startswith(_EXR)
    pixels = decode_exr(data) if is_exr else _decode(data)
    if pixels is None:
        raise MediaError(f"{path} is not a readable image; PNG, TIFF, JPEG, WebP or OpenEXR is needed")
    if not is_exr and pixels.dtype not in (np.uint8, np.uint16):
        raise MediaError(f"{path} has {pixels.dtype} samples; 8 or 16 bits are needed, or floats in an OpenEXR file")
    notes = ["its colour profile is left out: colours are taken for sRGB"] if _has_other_profile(data) else []
    if pixels.ndim == 2:
        notes.append("greyscale, converted to RGB")
        if _drops_transparency(data):
            notes.append("its transparency is left out")
        pixels = np.repeat(pixels[..., None], 3, axis=-1)
    elif is_exr:
        pass
    elif pixels.shape[2] == 4:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGBA)
    else:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    if data.startswith(b"\x89PNG") and data[_PNG_COLOUR_TYPE] == 3:
        notes.append("palette, converted to RGB")
    return Picture(pixels if is_exr else _upright(pixels, data), "; ".join(notes))


def _has_other_profile(data: bytes) -> bool:
    """Say whether a file holds an ICC profile that is not one of sRGB."""
    profile = _profile(data)
    return bool(profile) and not any("sRGB".encode(kind) in profile for kind in ("ascii", "utf-16-be"))


def _profile(data: bytes) -> bytes:
    """Give the ICC profile of a PNG, JPEG, TIFF or WebP file, of a JPEG file its first part; empty without one."""
    if data.startswith(b"\x89PNG"):
        start = data.find(b"iCCP", 0, data.find(b"IDAT"))
        if start < 0:
            return b""
        packed = data[start + 4 : start + 4 + int.from_bytes(data[start - 4 : start], "big")]
        try:
            return zlib.decompress(packed.partition(b"\0")[2][1:])
        except zlib.error:
            return b"damaged"
    if data.startswith(b"\xff\xd8"):
        at = 2
        while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b""):  # up to the picture itself
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            if data[at + 4 : at + 16] == b"ICC_PROFILE\0":
                return data[at + 18 : end]
            at = end
        return b""
    if data[:4] in _TIFF_ORDERS:
        order, entry = _tag(data, 0, _ICC_PROFILE)
        size, start = struct.unpack_from(f"{order}II", data, entry + 4) if entry else (0, 0)
        return data[start : start + size]
    return data[30 : 38 + int.from_bytes(data[34:38], "little")] if data[30:34] == b"ICCP" else b""


def _drops_transparency(data: bytes) -> bool:
    """Say whether a greyscale file has transparency, which OpenCV does not read."""
    if data.startswith(b"\x89PNG"):
        return data.find(b"tRNS", 0, data.find(b"IDAT")) >= 0
    order, entry = _tag(data, 0, _SAMPLES_PER_PIXEL)
    return bool(entry) and struct.unpack_from(f"{order}H", data, entry + 8)[0] > 1


def write_image(path: Path, pixels: Image, overwrite: bool = False) -> None:
    """Write an image in the format of the ending: without loss, except JPEG.

    Raises:
        OutputExistsError: If the file is there and ``overwrite`` is False.
        MediaError: If the ending is unknown, the folder is missing, or the disk is full.
        InvalidInputError: If the format cannot hold an image of this size or type.
    """
    check_file(path, ENDINGS, overwrite)
    data = encode_image(path.suffix, pixels)
    with complete_file(path, overwrite) as hidden:
        hidden.write_bytes(data)


def encode_image(ending: str, pixels: Image) -> bytes:
    """Encode ``(H, W, 3)`` or ``(H, W, 4)`` RGB(A), uint8, uint16 or float, to the bytes of a file.

    What the format cannot hold is left out, see :func:`loss_in`.

    Raises:
        InvalidInputError: If the format cannot hold an image of this size or type.
    """
    ending = ending.lower()
    check_kind(ending, pixels)
    if ending == FLOAT:
        return encode_exr(pixels)
    if ending in ONLY_8_BIT and pixels.dtype == np.uint16:
        pixels = with_bits(pixels, 8)
    if ending in WITHOUT_ALPHA:
        pixels = pixels[..., :3]
    is_rgba = pixels.shape[2] == 4
    bgr = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGBA2BGRA if is_rgba else cv2.COLOR_RGB2BGR)
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_WEBP_QUALITY, WEBP_LOSSLESS]
    wanted = options[:2] if ending in WITHOUT_ALPHA else options[2:] if ending == ".webp" else []
    try:
        is_encoded, data = cv2.imencode(ending, bgr, wanted)
    except cv2.error:
        is_encoded = False
    if not is_encoded:
        size = f"{pixels.shape[1]}x{pixels.shape[0]}"
        raise InvalidInputError(f"an image of {size} pixels cannot be written as {ending}; use .png")
    return data.tobytes()


def check_kind(ending: str, pixels: Image) -> None:
    """Refuse to write linear light to files of displayed colours, and the reverse: each needs a choice of its own.

    Raises:
        InvalidInputError: If only one of pixels and ending is for floats.
    """
    is_float = pixels.dtype.kind == "f"
    if is_float and ending.lower() != FLOAT:
        raise InvalidInputError(f"{ending} cannot hold the linear light of OpenEXR images; write {FLOAT}")
    if not is_float and ending.lower() == FLOAT:
        raise InvalidInputError(
            f"{FLOAT} is for linear light, and the source has none; .png and .tiff keep its 16 bits"
        )


def loss_in(ending: str, pixels: Image) -> str:
    """Say what files with this ending cannot hold of these pixels, or give an empty text.

    Raises:
        InvalidInputError: If they cannot hold them at all.
    """
    ending = ending.lower()
    check_kind(ending, pixels)
    lost = [
        text
        for text, is_lost in (
            ("alpha is dropped", pixels.shape[2] == 4 and ending in WITHOUT_ALPHA),
            ("16 bits become 8", pixels.dtype == np.uint16 and ending in ONLY_8_BIT),
        )
        if is_lost
    ]
    return f"{ending} cannot hold everything: {', '.join(lost)}" if lost else ""


def alike(first: Image, second: Image) -> tuple[Image, Image]:
    """Give two images the same kind: with alpha if one has it, with the richer samples of the two.

    Raises:
        InvalidInputError: If their sizes differ, or only one is of floats.
    """
    if first.shape[:2] != second.shape[:2]:
        raise InvalidInputError(
            f"both images must have the same size, got {first.shape[:2]} and {second.shape[:2]} (height, width)"
        )
    if first.dtype.kind != second.dtype.kind:
        raise InvalidInputError("both images must be linear light (OpenEXR), or neither")
    channels = max(first.shape[2], second.shape[2])
    kind = np.promote_types(first.dtype, second.dtype)
    return _as_kind(first, channels, kind), _as_kind(second, channels, kind)


def list_images(folder: Path) -> list[Path]:
    """List the images of a folder in the order of the numbers in their names: 2 before 10.

    Any numbering will do: with or without leading zeros, from any start, in any steps.

    Raises:
        MediaError: If there is no such folder or no image in it.
    """
    if not folder.is_dir():
        raise MediaError(f"there is no folder {folder}")
    images = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in ENDINGS and file.is_file() and not file.name.startswith(".")
    ]
    if not images:
        raise MediaError(f"there are no images in {folder}; {', '.join(ENDINGS)} are looked for")
    return sorted(images, key=lambda file: (_natural(file.name), file.name))


def _natural(name: str) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if place % 2 else (-1, part.lower()) for place, part in enumerate(parts)]


def _decode(data: bytes) -> Image | None:
    """Decode to what the file holds: grey, BGR or BGRA, not turned. None if that does not work."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the error that we raise says it
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    except cv2.error:
        return None
    finally:
        cv2.utils.logging.setLogLevel(level)


def _upright(pixels: Image, data: bytes) -> Image:
    """Turn and mirror as the EXIF orientation asks; OpenCV does so by itself for TIFF only."""
    orientation = _orientation(data)
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _orientation(data: bytes) -> int:
    for marker, length in _EXIF_MARKERS.items():
        start = data.find(marker)
        if start >= 0:
            order, entry = _tag(data, start + length, _ORIENTATION)
            if entry:
                return int(struct.unpack_from(f"{order}H", data, entry + 8)[0])
    return 1


def _tag(data: bytes, start: int, tag: int) -> tuple[str, int]:
    """Find a tag in the first directory of a TIFF file or EXIF block that begins at ``start``.

    Returns:
        The byte order, as `struct` takes it, and the place of the entry's 12 bytes; 0 if there is none.
    """
    order = _TIFF_ORDERS.get(data[start : start + 4], "")
    try:
        if order:
            at = start + struct.unpack_from(f"{order}I", data, start + 4)[0]
            for entry in range(at + 2, at + 2 + 12 * struct.unpack_from(f"{order}H", data, at)[0], 12):
                if struct.unpack_from(f"{order}HHII", data, entry)[0] == tag:
                    return order, entry
    except struct.error:
        pass  # a damaged directory says nothing
    return order, 0


def _as_kind(pixels: Image, channels: int, kind: np.dtype[Any]) -> Image:
    if kind.kind == "f":
        pixels, opaque = pixels.astype(kind), 1
    else:
        pixels = pixels.astype(kind) * (257 if pixels.dtype != kind else 1)
        opaque = np.iinfo(kind).max
    if channels == 4 and pixels.shape[2] == 3:
        alpha = np.full((*pixels.shape[:2], 1), opaque, kind)
        pixels = np.concatenate([pixels, alpha], axis=2)
    return pixels
