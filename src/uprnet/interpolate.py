"""Arrays in, arrays out: the frames between two images, whatever their type, size and device.

Convention:
    numpy images are ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGBA; torch images are ``(C, H, W)`` or ``(B, C, H, W)``.
    Integers span their type's range, floats are in [0, 1]. Flow is ``(dx, dy)`` in pixels.
    ``t`` is 0 at ``img0`` and 1 at ``img1``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from functools import partial
from hashlib import sha256
from pathlib import Path
from threading import RLock
from typing import Any, Literal, TypeVar, cast, get_args

import torch
from numpy.typing import NDArray
from torch import Tensor

from uprnet.arrays import check_alike
from uprnet.devices import pick_device
from uprnet.engines import attach
from uprnet.engines import choose as choose_engine
from uprnet.errors import InvalidInputError
from uprnet.network.allocator import reuse_freed_memory
from uprnet.network.compilation import compiled, compiler_errors
from uprnet.network.config import (
    Engine,
    Precision,
    default_num_levels,
    default_skip_finest,
)
from uprnet.network.memory import Work, choose_plan, parse_memory
from uprnet.network.model import Features, UPRNet
from uprnet.network.ops.cpu import threads_of_our_own
from uprnet.network.precision import choose_dtype, with_convolutions_in
from uprnet.network.striping import Plan, StripedUPRNet
from uprnet.network.weights import check_has_weights, load_model
from uprnet.pair import Pair
from uprnet.transfers import Transfers

#: Pixels of frames at several times of a pair that a GPU makes at once: small frames alone leave most of it idle.
PIXELS_AT_ONCE = 2**22

#: More levels would not find more motion: 8K takes 8 of them.
MAX_LEVELS = 12

#: How images are filled up on the right and bottom; the result there is cropped away.
Padding = Literal["replicate", "constant"]

Array = TypeVar("Array", "NDArray[Any]", Tensor)


class Interpolator:
    """Make frames between two images.

    Padding, the number of levels, types and the reuse of work are taken care of: motion is estimated once a pair,
    and a frame that was the second of the last pair and is the first of this one is not encoded again. Threads may
    share one: they take turns.

    Args:
        model: ``base`` or ``small`` (inside the package), the path of a weights file, or a network, which is copied.
        device: ``auto`` (CUDA, then Apple's MPS, then the CPU), or any torch device.
        engine: What runs the convolutions: ``torch``, ``numba``, ``ncnn``, ``openvino``, ``onnxruntime``, or ``auto``,
            the fastest for the device, see `uprnet.engines`. Frames of real scenes differ by less than 1e-4.
        precision: Type of the convolutions: ``fp32``, ``fp16``, ``bf16``, or ``auto``, which is fp16 on CUDA devices
            with tensor cores and fp32 elsewhere. Flow, time and the blending of frames are float32 always.
        memory: Memory that the work may take beyond the loaded network: bytes, or text such as ``4GiB``. By
            default 80 % of what is free, and on a CPU much less where that costs little time. It decides how the work
            is cut, never the result.
        compile: Compile the convolutions with `torch.compile`, and on CUDA record whole steps as graphs. The first
            frame then takes half a minute or more: worth it for long videos on a GPU.
        num_levels: Levels of the pyramid; by default as many as the size needs, see `default_num_levels`.
        skip_finest: Finest levels without motion estimation; by default as `default_skip_finest` says.
        padding: How images are filled up to a size that the network takes: ``replicate`` repeats the last row and
            column; ``constant`` puts grey there, as the reference does, which shows at edges that things move over.

    Raises:
        InvalidInputError: If there is no such device, engine, precision or padding, ``memory`` is no size, or they do
            not go together.
        MissingDependencyError: If the engine is not installed.
        WeightsError: If the weights cannot be read.

    Example:
        >>> interpolator = Interpolator("small", device="cpu")
        >>> black, grey = np.zeros((32, 48, 3), np.uint8), np.full((32, 48, 3), 99, np.uint8)
        >>> interpolator(black, grey, t=0.5).shape
        (32, 48, 3)
    """

    def __init__(
        self,
        model: str | Path | UPRNet = "base",
        device: str | torch.device = "auto",
        *,
        engine: Engine = "auto",
        precision: Precision = "auto",
        memory: str | int | None = None,
        compile: bool = False,
        num_levels: int | None = None,
        skip_finest: int | None = None,
        padding: Padding = "replicate",
    ) -> None:
        _check_choice("padding", padding, Padding)
        _check_choice("precision", precision, Precision)
        self.memory = None if memory is None else parse_memory(memory)
        self.device = pick_device(device)
        if self.device.type == "cpu":
            reuse_freed_memory()
        _check_levels(num_levels, skip_finest)
        if isinstance(model, UPRNet):
            check_has_weights(model)
        network = deepcopy(model).float().eval() if isinstance(model, UPRNet) else load_model(model)
        self._again = partial(
            Interpolator,
            model if isinstance(model, (str, Path)) else deepcopy(network),
            device,
            engine=engine,
            precision=precision,
            memory=memory,
            compile=compile,
            num_levels=num_levels,
            skip_finest=skip_finest,
            padding=padding,
        )
        dtype = choose_dtype(precision, self.device)
        self.engine: Engine = choose_engine(engine, self.device, dtype, compile=compile)
        self._decisive = (_hash_of(network), self.engine, precision, compile, num_levels, skip_finest, padding)
        network = with_convolutions_in(dtype, network.to(self.device))
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        network = attach(network, self.engine)
        self.model: UPRNet = compiled(network) if compile else network
        self._is_compiled = compile
        self.num_levels = num_levels
        self.skip_finest = skip_finest
        self.padding: Padding = padding
        self._recent: deque[Features] = deque(maxlen=2)
        self._plans: dict[Work, Plan] = {}
        self._transfers = Transfers(self.device)
        self._turn = RLock()
        self._pixels_at_once = PIXELS_AT_ONCE if self.device.type == "cuda" else 0

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied, or sent to another process, it is made anew: locks and machine code stay where they are."""
        return self._again, ()

    def __call__(self, img0: Array, img1: Array, t: float = 0.5) -> Array:
        """Return the frame at time ``t``, in the type, size and range of the images."""
        return self.between(img0, img1, [t])[0]

    def between(self, img0: Array, img1: Array, times: Iterable[float]) -> list[Array]:
        """Return one frame for each of ``times``; motion is estimated once for all.

        Args:
            img0: First image.
            img1: Second image, of the same type and size.
            times: Times in [0, 1]; at 0 and 1 the image itself comes back, exactly.

        Raises:
            InvalidInputError: If the images or a time do not fit.
        """
        pair = self.pair(img0, img1)
        return cast("list[Array]", pair.frames(times))

    def pair(self, img0: Array, img1: Array) -> Pair:
        """Prepare a pair: its motion is estimated when first needed, then shared by all that is asked of it.

        The images are looked at then, not now, and must not change in between.
        """
        check_alike(img0, img1)
        return Pair(self, img0, img1)

    @torch.inference_mode()
    def _features(self, image: Tensor) -> Features:
        """Encode a padded image, unless it is one of the two that were used last."""
        for place, features in enumerate(self._recent):
            if torch.equal(features.level(0).image, image):
                self._recent.rotate(-place - 1)  # it is the last used one now
                return features
        if len(self._recent) == self._recent.maxlen:
            self._recent.popleft()  # before there is a third
        features = self._planned(image).encode(image, *self.levels_for(*image.shape[-2:]))
        self._recent.append(features)
        return features

    def _planned(self, image: Tensor, *, with_details: bool = False) -> UPRNet:
        """Return the network that works on a padded image of this size within the memory there is."""
        plan = self._plan(len(image), *image.shape[-2:])
        return self.model if plan == Plan() else StripedUPRNet(self.model, plan, with_details=with_details)

    def _plan(self, batch: int, height: int, width: int) -> Plan:
        levels = self.levels_for(height, width)
        work = Work(batch, height, width, self.model.config.base_channels, *levels, engine=self.engine)
        if work not in self._plans:
            self._plans[work] = choose_plan(work, self.memory, self.device)
        return self._plans[work]

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Keep other threads of Python out, and give processor threads to those that gain most from them."""
        threads = threads_of_our_own() if self.engine == "numba" else nullcontext()
        with self._turn, threads, compiler_errors() if self._is_compiled else nullcontext():
            yield

    @property
    def identity(self) -> str:
        """What decides the frames: the weights, where they run, how; equal for interpolators that make the same."""
        return f"{self.device.type} {self._decisive}"

    def levels_for(self, height: int, width: int) -> tuple[int, int]:
        """Return ``num_levels`` and ``skip_finest`` for an image of this size."""
        num_levels = default_num_levels(height, width) if self.num_levels is None else self.num_levels
        skip_finest = default_skip_finest(num_levels) if self.skip_finest is None else self.skip_finest
        return num_levels, skip_finest


def _check_choice(name: str, value: str, choices: Any) -> None:
    """Refuse a value that a Literal does not list."""
    if value not in get_args(choices):
        raise InvalidInputError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")


def _hash_of(network: UPRNet) -> str:
    digest = sha256()
    for name, weights in network.state_dict().items():
        digest.update(name.encode())
        digest.update(weights.float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _check_levels(num_levels: int | None, skip_finest: int | None) -> None:
    if num_levels is not None and not (isinstance(num_levels, int) and 1 <= num_levels <= MAX_LEVELS):
        raise InvalidInputError(f"num_levels must be a whole number from 1 to {MAX_LEVELS}, got {num_levels}")
    if skip_finest is not None and not (isinstance(skip_finest, int) and skip_finest >= 0):
        raise InvalidInputError(f"skip_finest must be a whole number from 0 on, got {skip_finest}")
