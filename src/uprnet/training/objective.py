"""The network and everything it is asked for, as one module: frames, and flow where it is known."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uprnet.errors import TrainingError
from uprnet.network.model import BOXES, Features, Motion, UPRNet
from uprnet.network.ops import cost_volume, resize
from uprnet.training.losses import census, charbonnier, flow_error, laplacian, matching, psnr
from uprnet.training.sample import Batch

FRAME_LOSSES = {"charbonnier": charbonnier, "census": census, "laplacian": laplacian, "psnr": psnr, "teacher": psnr}
MATCHING_START = 10.0  # factor on the cost volume before the softmax; learned from there


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses; 0 leaves one out.

    Args:
        charbonnier: Smooth absolute difference of the frames.
        census: Difference of local structure of the frames.
        laplacian: Difference of Laplacian pyramids of the frames.
        psnr: Negative PSNR of the frames, in decibel.
        teacher: The same against what a teacher makes of the sample.
        flow: End-point error of the flow of every level, in pixels, where the true motion is known.
        matching: Cross-entropy of the cost volume of every level, where the true motion is known.
        frame_decay: Weight of each level's frame relative to the finer one's; 0 looks at the finest alone.
        flow_decay: Weight of each level's flow and matching relative to the finer one's.
        flow_only: Train encoder and flow estimator alone, without synthesis: a third of the cost.
        frozen: Boxes of the network that stay as they are: ``encoder``, ``flow_estimator``, ``synthesis``.
    """

    charbonnier: float = 1.0
    census: float = 1.0
    laplacian: float = 0.0
    psnr: float = 0.0
    teacher: float = 0.0
    flow: float = 0.0
    matching: float = 0.0
    frame_decay: float = 0.0
    flow_decay: float = 1.0
    flow_only: bool = False
    frozen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "frozen" and not value >= 0:
                raise TrainingError(f"loss.{name} must be at least 0, got {value}")
        if unknown := set(self.frozen).difference(BOXES):
            raise TrainingError(f"loss.frozen may hold {', '.join(BOXES)}, got {', '.join(sorted(unknown))}")
        if not (self.has_frames or self.has_flow):
            needed = "loss.flow or loss.matching" if self.flow_only else "a loss"
            raise TrainingError(f"nothing is trained: give {needed} a weight above 0")
        for loss, boxes in self._teaches.items():
            if boxes.issubset(self.frozen):
                raise TrainingError(f"loss.{loss} has nothing to train: loss.frozen holds {', '.join(sorted(boxes))}")

    @property
    def has_frames(self) -> bool:
        """Whether frames are made and looked at."""
        return not self.flow_only and any(getattr(self, name) > 0 for name in FRAME_LOSSES)

    @property
    def has_flow(self) -> bool:
        """Whether motion is looked at."""
        return self.flow > 0 or self.matching > 0

    @property
    def _teaches(self) -> dict[str, frozenset[str]]:
        """The boxes that each loss in use has a gradient for."""
        frames = dict.fromkeys(FRAME_LOSSES if self.has_frames else (), frozenset(BOXES))
        motion = {"flow": frozenset({"encoder", "flow_estimator"}), "matching": frozenset({"encoder"})}
        return {loss: boxes for loss, boxes in {**frames, **motion}.items() if getattr(self, loss) > 0}

    @property
    def trained(self) -> frozenset[str]:
        """The boxes that are trained."""
        return frozenset().union(*self._teaches.values()).difference(self.frozen)


class Objective(nn.Module):
    """A network with its losses.

    Args:
        model: The network.
        config: Weights of the losses.
        num_levels: Levels of the pyramid.
        checkpointing: Keep only the borders of the boxes in memory and compute their insides twice.
    """

    def __init__(self, model: UPRNet, config: LossConfig, num_levels: int, checkpointing: bool = False) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.num_levels = num_levels
        self.checkpointing = checkpointing
        self.log_sharpness = nn.Parameter(torch.tensor(MATCHING_START).log())
        # A process group waits for the gradient of every parameter: those without a part in the loss take none.
        self.log_sharpness.requires_grad_(config.matching > 0)
        for box in BOXES:
            getattr(model, box).requires_grad_(box in config.trained)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of each sample.

        Args:
            batch: Samples.

        Returns:
            The weighted sum ``(B,)``, and each loss without its weight ``(B,)``, by name.
        """
        features0, features1, motion = self._move(batch.img0, batch.img1)
        parts: dict[str, Tensor] = {}
        if self.config.has_frames:
            frames = self._synthesize(features0, features1, motion, batch.t)
            parts.update(self._frame_losses(frames, batch))
        if self.config.has_flow:
            parts.update(self._flow_losses(features0, features1, motion, batch))
        total = torch.zeros_like(batch.t)
        for name, value in parts.items():
            total = total + getattr(self.config, name) * value
        return total, parts

    def _move(self, img0: Tensor, img1: Tensor) -> tuple[Features, Features, Motion]:
        if not self.checkpointing:
            features0 = self.model.encode(img0, self.num_levels)
            features1 = self.model.encode(img1, self.num_levels)
            return features0, features1, self.model.estimate_motion(features0, features1)
        features0 = checkpoint(self.model.encode, img0, self.num_levels, use_reentrant=False)
        features1 = checkpoint(self.model.encode, img1, self.num_levels, use_reentrant=False)
        motion = checkpoint(self.model.estimate_motion, features0, features1, use_reentrant=False)
        return features0, features1, motion

    def _synthesize(self, features0: Features, features1: Features, motion: Motion, t: Tensor) -> list[Tensor | None]:
        if not self.checkpointing:
            return self.model.synthesize(features0, features1, motion, t).frames
        synthesis = checkpoint(self.model.synthesize, features0, features1, motion, t, use_reentrant=False)
        frames: list[Tensor | None] = synthesis.frames
        return frames

    def _frame_losses(self, frames: list[Tensor | None], batch: Batch) -> dict[str, Tensor]:
        """Losses of the frames, levels summed with their decay."""
        wanted = {name: loss for name, loss in FRAME_LOSSES.items() if getattr(self.config, name) > 0}
        parts = {name: torch.zeros_like(batch.t) for name in wanted}
        for level, frame in enumerate(frames):
            weight = self.config.frame_decay**level  # 0 ** 0 is 1
            if weight == 0 or frame is None:
                continue
            scale = 0.5**level
            for name, loss in wanted.items():
                truth = batch.lesson if name == "teacher" else batch.target
                parts[name] = parts[name] + weight * loss(frame.float(), resize(truth, scale) if level else truth)
        return parts

    def _flow_losses(self, features0: Features, features1: Features, motion: Motion, batch: Batch) -> dict[str, Tensor]:
        """Losses of flow and matching, levels summed with their decay; 0 for samples of unknown motion."""
        nothing = torch.zeros_like(batch.t)
        parts = {name: nothing for name in ("flow", "matching") if getattr(self.config, name) > 0}
        for level, flow in enumerate(motion.flows):
            weight = self.config.flow_decay**level
            if weight == 0 or flow is None:
                continue
            if "flow" in parts:
                error = flow_error(flow.float(), batch.flow, level)
                parts["flow"] = parts["flow"] + weight * error * batch.has_flow
            if "matching" in parts:
                costs = cost_volume(features0.level(level).c2, features1.level(level).c2).float()
                entropy = matching(costs, batch.flow, level, self.log_sharpness.exp())
                parts["matching"] = parts["matching"] + weight * entropy * batch.has_flow
        return parts
