"""What changes over a run, each a pure function of the step."""

import math

from uprnet.training.config import OptimizerConfig

EMA_WARMUP = 10  # steps: the average starts short, so that it does not remember the first weights


def learning_rate(step: int, config: OptimizerConfig) -> float:
    """The learning rate of a step: linear from 0, then half a cosine down to the final rate.

    Args:
        step: From 0.
        config: The schedule.

    Returns:
        A pure function of the step.

    Example:
        >>> schedule = OptimizerConfig(steps=100, warmup_steps=10, learning_rate=1.0, final_learning_rate=0.1)
        >>> learning_rate(5, schedule), round(learning_rate(100, schedule), 3)
        (0.5, 0.1)
    """
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    share = 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_learning_rate + share * (config.learning_rate - config.final_learning_rate)


def average_decay(step: int, config: OptimizerConfig) -> float:
    """The share of the averaged weights that a step keeps.

    Args:
        step: From 0.
        config: The schedule.

    Returns:
        ``(1 + step) / (10 + step)`` at first, later ``config.ema_decay``.

    Example:
        >>> average_decay(0, OptimizerConfig()), average_decay(10**6, OptimizerConfig())
        (0.1, 0.999)
    """
    return min(config.ema_decay, (1 + step) / (EMA_WARMUP + step))
