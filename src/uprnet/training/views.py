"""The ways to look at a sample: turned, mirrored, played backwards. All are as true as the sample itself."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from uprnet.training.sample import Batch

VIEWS = 16  # four turns, mirrored or not, forwards or backwards


@dataclass(frozen=True)
class View:
    """One of the ways: played backwards or not, then turned, then mirrored or not.

    Convention:
        Frames are ``(B, 3, H, W)``; motion is ``(B, 4, H, W)``, channels ``(dx01, dy01, dx10, dy10)`` in pixels.

    Args:
        number: Which, from 0 (as it is) to `VIEWS` - 1.

    Example:
        >>> view = View(1)
        >>> image = torch.rand(1, 3, 8, 8)
        >>> bool((view.back.frame(view.frame(image)) == image).all())
        True
    """

    number: int

    @property
    def _turns(self) -> int:
        return self.number % 4

    @property
    def _is_mirrored(self) -> bool:
        return self.number // 4 % 2 == 1

    @property
    def _is_backwards(self) -> bool:
        return self.number // 8 == 1

    @property
    def back(self) -> "View":
        """The view in which what was made in this one is as it is without: a mirrored one is its own."""
        return self if self._is_mirrored else View(self.number - self._turns + -self._turns % 4)

    def frame(self, image: Tensor) -> Tensor:
        """A frame as it is seen."""
        turned = torch.rot90(image, self._turns, (2, 3))
        return turned.flip(3) if self._is_mirrored else turned

    def pair(self, img0: Tensor, img1: Tensor) -> tuple[Tensor, Tensor]:
        """Two frames as they are seen, in the order in which they are played."""
        first, second = (img1, img0) if self._is_backwards else (img0, img1)
        return self.frame(first), self.frame(second)

    def time(self, t: Tensor) -> Tensor:
        """The time at which the same frame lies."""
        return 1 - t if self._is_backwards else t

    def flow(self, flow: Tensor) -> Tensor:
        """Motion as it is seen."""
        flow = flow.roll(2, dims=1) if self._is_backwards else flow
        for _ in range(self._turns):
            dx01, dy01, dx10, dy10 = torch.rot90(flow, 1, (2, 3)).unbind(dim=1)
            flow = torch.stack((dy01, -dx01, dy10, -dx10), dim=1)
        return flow.flip(3) * flow.new_tensor([-1, 1, -1, 1])[:, None, None] if self._is_mirrored else flow

    def batch(self, batch: Batch) -> Batch:
        """Samples, square, as they are seen; laid out in memory as they were."""
        img0, img1 = self.pair(batch.img0, batch.img1)
        seen = {"img0": img0, "img1": img1, "target": self.frame(batch.target), "lesson": self.frame(batch.lesson)}
        laid_out = {name: torch.empty_like(getattr(batch, name)).copy_(image) for name, image in seen.items()}
        return replace(batch, t=self.time(batch.t), flow=self.flow(batch.flow), **laid_out)
