"""The training loop: one process or many, exact to resume."""

import copy
import logging
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from uprnet.engines.gradients import use_winograd
from uprnet.errors import TrainingError
from uprnet.files import write_whole
from uprnet.network.allocator import reuse_freed_memory
from uprnet.network.weights import save_model
from uprnet.training.checkpoints import CheckpointFolder, only_process
from uprnet.training.config import TrainingConfig, write_recipe
from uprnet.training.cuda_graphs import GraphedObjective, check_graphs
from uprnet.training.journal import Journal
from uprnet.training.mixture import Positions, TrainingStream, open_loader
from uprnet.training.objective import Objective
from uprnet.training.preparation import (
    check_batch,
    check_size,
    open_accelerator,
    open_teacher,
    starting_model,
    uses_winograd,
)
from uprnet.training.sample import Batch, PackedBatch, collate
from uprnet.training.schedule import average_decay, learning_rate
from uprnet.training.side_by_side import SideBySide
from uprnet.training.stop_signals import StopSignals
from uprnet.training.supply import Supply
from uprnet.training.validation import Validator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Args:
        step: Steps that are done.
        score: Best mean PSNR in validation, in decibel; minus infinity without one.
        bad_steps: Steps that were skipped because loss or gradient was not finite.
        skipped_samples: Unreadable samples that were skipped.
    """

    step: int
    score: float
    bad_steps: int
    skipped_samples: int


@dataclass
class _Counters:
    """What a run counts; part of its checkpoints."""

    step: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    skipped_samples: int = 0
    score: float = -math.inf
    sums: dict[str, float] = field(default_factory=dict)  # of metrics since the last line
    summed: int = 0


@dataclass(frozen=True)
class _Began:
    """From where on speed is measured."""

    step: int
    moment: float = field(default_factory=time.monotonic)


def train(config: TrainingConfig, *, resume: bool = False) -> TrainingResult:
    """Train a network as a recipe says.

    The run's folder receives ``recipe.toml``, ``checkpoints/``, ``metrics.jsonl``, ``tensorboard/``,
    ``last.safetensors`` (the averaged weights at the last checkpoint) and ``best.safetensors`` (those with the
    best validation). Interrupted by Ctrl-C or SIGTERM, it writes a checkpoint and returns.

    Args:
        config: The run.
        resume: Go on from the newest checkpoint in the run's folder, exactly as if it had not stopped.

    Returns:
        How the run ended.

    Raises:
        TrainingError: If the recipe or the data do not fit, the folder already holds a run, there is nothing to
            resume, or the loss stays non-finite.

    Example:
        >>> train(read_recipe(Path("recipes/smoke.toml"))).score > 20  # doctest: +SKIP
        True
    """
    accelerator = open_accelerator(config)
    check_batch(config.optimizer, accelerator.num_processes)
    if config.compute.cuda_graphs:
        check_graphs(config, accelerator.device, accelerator.num_processes)
    folder = CheckpointFolder(Path(config.run) / "checkpoints", config.log.keep)
    if accelerator.device.type == "cpu":
        reuse_freed_memory()
    if config.compute.threads:
        torch.set_num_threads(config.compute.threads)
    with only_process(Path(config.run)) if accelerator.is_main_process else nullcontext():
        if folder.exists() and not resume:
            raise TrainingError(
                f"{config.run} already holds a run; resume it (--resume) or give another folder (--run)"
            )
        return _Run(config, accelerator, folder, resume).go()


class _Run:
    """All that a run is made of."""

    def __init__(self, config: TrainingConfig, accelerator: Any, folder: CheckpointFolder, resume: bool) -> None:
        self.config, self.accelerator, self.folder = config, accelerator, folder
        self.counters = _Counters()
        torch.manual_seed(config.seed)
        optimizer = config.optimizer
        self.rounds = -(-optimizer.steps // config.data.echoes)  # of new samples
        self.stream = TrainingStream(config.data, config.seed, self.rounds * optimizer.batch_size)
        model = starting_model(config, self.stream)
        objective = Objective(model, config.loss, config.network.num_levels, config.compute.checkpointing)
        saved = folder.latest() if resume else None
        if saved is not None:
            check_size(saved, model.config, folder.folder)
            objective.load_state_dict(saved["objective"])
        is_winograd = uses_winograd(config.compute, accelerator.device)
        if is_winograd:
            use_winograd(model)
        self.channels_last = config.compute.channels_last or is_winograd
        if self.channels_last:
            objective = cast(Objective, objective.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        self.objective = objective.to(accelerator.device)
        self.ema = copy.deepcopy(self.objective.model).requires_grad_(False)
        trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
        adam = torch.optim.AdamW(trained, lr=0.0, weight_decay=optimizer.weight_decay)
        if config.compute.compile:
            for box in (model.encoder, model.flow_estimator, model.synthesis):
                box.compile()
        self.wrapped, self.adam = accelerator.prepare(self.objective, adam)
        is_alone = accelerator.device.type == "cpu" and accelerator.num_processes == 1
        threads = torch.get_num_threads()
        can_split = is_alone and threads > 1 and not config.compute.compile
        self.side_by_side = SideBySide(self.wrapped, threads) if can_split else None
        teacher, seed = open_teacher(config, accelerator), (config.seed, accelerator.process_index)
        self.supply = Supply(accelerator.device, self.channels_last, teacher, config.data.echoes, seed)
        self.graphed = self._record() if config.compute.cuda_graphs else None
        if saved is not None:
            self._restore(saved)
        self.stopping = self.stopping_together = False  # this process, and all of them

    def go(self) -> TrainingResult:
        """Run to the end."""
        config, accelerator = self.config, self.accelerator
        validator = None
        if accelerator.is_main_process and config.validation.every:
            given = Path(config.validation.triplets) if config.validation.triplets else None
            samples, crop = config.validation.samples, config.validation.crop
            validator = Validator(config.data, samples, crop, config.network.num_levels, given)
        if accelerator.is_main_process:
            _write_text(Path(config.run) / "recipe.toml", write_recipe(config))
        first = self.counters.step
        journal = (
            Journal(Path(config.run), first, config.optimizer.steps, config.log.tensorboard)
            if accelerator.is_main_process
            else None
        )
        batches = iter(self._loader(first))
        with journal or nullcontext(), StopSignals(self._stop):
            began = _Began(first)
            for step in range(first, config.optimizer.steps):
                self._step(step, batches)
                began = self._after_step(journal, validator, began)
                if self._is_over:
                    break
            if journal is not None and (self._is_over or not self._at(config.log.checkpoint_every)):
                self._save()
        accelerator.wait_for_everyone()
        counters = self.counters
        return TrainingResult(counters.step, counters.score, counters.bad_steps, counters.skipped_samples)

    def _stop(self) -> None:
        """End after the step that is under way; several processes, after the one in which they tell each other."""
        self.stopping = True

    @property
    def _is_over(self) -> bool:
        return self.stopping if self.accelerator.num_processes == 1 else self.stopping_together

    def _step(self, step: int, batches: Iterator[PackedBatch]) -> None:
        """Compute gradients over all parts of this process's share, and move the weights."""
        optimizer, accelerator = self.config.optimizer, self.accelerator
        rate = learning_rate(step, optimizer)
        for group in self.adam.param_groups:
            group["lr"], group["weight_decay"] = rate, optimizer.weight_decay  # as in the recipe, also after resuming
        measured: dict[str, Tensor] = {}
        skipped = torch.zeros((), device=accelerator.device)
        for part in range(optimizer.accumulate):
            batch = self.supply(step, part, batches)
            last = part == optimizer.accumulate - 1
            total, parts = self._differentiate(batch, last=last)
            for name, value in {"loss": total, **parts}.items():
                mean = value.detach().mean() / optimizer.accumulate
                measured[name] = measured.get(name, torch.zeros_like(mean)) + mean
            skipped += batch.skipped.sum()
        norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), optimizer.clip_norm or math.inf)
        numbers = self._reduce(measured, skipped)
        finite = math.isfinite(numbers["loss"]) and math.isfinite(float(norm))
        # With fp16 the scaler itself skips the step, and must see it to become smaller.
        if finite or accelerator.scaler is not None:
            self.adam.step()
        self.adam.zero_grad()
        self._count(finite, {**numbers, "gradient_norm": float(norm), "learning_rate": rate})
        if finite:
            self._update_ema(step)

    def _differentiate(self, batch: Batch, *, last: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Add to the gradients, and return the losses; processes exchange gradients after the ``last`` part."""
        scale = 1 / self.config.optimizer.accumulate
        if self.side_by_side is not None:
            return self.side_by_side(batch, scale)
        with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
            losses: tuple[Tensor, dict[str, Tensor]] = (self.graphed or self.wrapped)(batch)
            self.accelerator.backward(losses[0].mean() * scale)
        return losses

    def _record(self) -> GraphedObjective:
        """Record the objective before the data loader has threads that use the GPU."""
        samples = collate([self.stream[index] for index in range(self.config.optimizer.batch_size)])
        return GraphedObjective(self.objective, self.supply.prepare(samples))

    def _reduce(self, measured: dict[str, Tensor], skipped: Tensor) -> dict[str, float]:
        """Means over all processes; skipped samples are counted on the way, and one that stops stops all."""
        stacked = torch.stack([*measured.values(), skipped, torch.full_like(skipped, self.stopping)])
        if self.accelerator.num_processes > 1:
            stacked = self.accelerator.reduce(stacked, reduction="mean")
        *values, skips, stopping = stacked.tolist()
        self.counters.skipped_samples += round(skips * self.accelerator.num_processes)
        self.stopping_together = stopping > 0
        return dict(zip(measured, values, strict=True))

    def _count(self, finite: bool, numbers: dict[str, float]) -> None:
        counters = self.counters
        counters.step += 1
        if finite:
            counters.bad_in_a_row = 0
            for name, value in numbers.items():
                counters.sums[name] = counters.sums.get(name, 0.0) + value
            counters.summed += 1
            return
        counters.bad_steps += 1
        counters.bad_in_a_row += 1
        logger.warning("step %d: loss or gradient is not finite; the step is skipped", counters.step)
        if counters.bad_in_a_row >= self.config.optimizer.max_bad_steps:
            raise TrainingError(
                f"the loss was not finite in {counters.bad_in_a_row} steps in a row (up to step {counters.step}); "
                "lower optimizer.learning_rate or clip_norm and resume: the checkpoints from before are untouched"
            )

    def _update_ema(self, step: int) -> None:
        decay = average_decay(step, self.config.optimizer)
        with torch.no_grad():
            averaged: list[Tensor] = list(self.ema.parameters())
            current: list[Tensor] = list(self.objective.model.parameters())
            torch._foreach_lerp_(averaged, current, 1 - decay)

    def _after_step(self, journal: Journal | None, validator: Validator | None, began: _Began) -> _Began:
        """Log, validate and save where it is time to; return from where on speed is measured."""
        if journal is None:
            return began
        config, counters = self.config, self.counters
        journal.advance(counters.step)
        if self._at(config.log.every) and counters.summed:
            values = {name: value / counters.summed for name, value in counters.sums.items()}
            counters.sums, counters.summed = {}, 0
            speed = (counters.step - began.step) * config.optimizer.batch_size / (time.monotonic() - began.moment)
            extra = {"bad_steps": float(counters.bad_steps), "skipped_samples": float(counters.skipped_samples)}
            journal.write(counters.step, {**values, "samples_per_second": speed, **extra})
            began = _Began(counters.step)
        if validator is not None and self._at(config.validation.every):
            self._validate(journal, validator)
            began = _Began(counters.step)
        if self._at(config.log.checkpoint_every):
            self._save()
        return began

    def _at(self, every: int) -> bool:
        return every > 0 and (self.counters.step % every == 0 or self.counters.step == self.config.optimizer.steps)

    def _validate(self, journal: Journal, validator: Validator) -> None:
        found = validator(self.ema, self.accelerator.device)
        journal.write(self.counters.step, {f"validation/{name}": value for name, value in found.values.items()})
        if self._at(self.config.log.images_every):
            journal.show(self.counters.step, "overlay, target, prediction, error, flow", found.sheet)
        if found.score > self.counters.score:
            self.counters.score = found.score
            self._save_weights("best.safetensors")

    def _save_weights(self, name: str) -> None:
        metadata = {"step": str(self.counters.step), "score": f"{self.counters.score:.4f}"}
        save_model(self.ema, Path(self.config.run) / name, metadata, overwrite=True)

    def _save(self) -> None:
        state = {
            "base_channels": self.ema.config.base_channels,
            "objective": self.objective.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.adam.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler is not None else {},
            "counters": vars(self.counters),
        }
        self.folder.save(self.counters.step, state)
        self._save_weights("last.safetensors")

    def _restore(self, saved: dict[str, Any]) -> None:
        self.ema.load_state_dict(saved["ema"])
        try:
            self.adam.load_state_dict(saved["optimizer"])
        except ValueError as error:
            raise TrainingError(
                "a run can only go on if the same parameters are trained, got other losses than those of its "
                "checkpoints; take another folder, with network.start = its last.safetensors"
            ) from error
        if self.accelerator.scaler is not None and saved["scaler"]:
            self.accelerator.scaler.load_state_dict(saved["scaler"])
        self.counters = _Counters(**saved["counters"])

    def _loader(self, first_step: int) -> DataLoader[Any]:
        optimizer = self.config.optimizer
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        first = first_step // self.config.data.echoes
        positions = Positions(first, self.rounds, optimizer.batch_size, optimizer.accumulate, rank, processes)
        return open_loader(self.stream, positions, self.config.data.workers, self.accelerator.device.type == "cuda")


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_whole(path, overwrite=True) as temporary:
        temporary.write_text(text, encoding="utf-8")
