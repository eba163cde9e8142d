"""What settings must be at least."""

from uprnet.errors import TrainingError


def check_limits(table: str, config: object, **least: float) -> None:
    """Refuse settings that are too small, or no numbers.

    Args:
        table: Where the settings stand in a recipe; empty for the outermost.
        config: The settings.
        least: The least value of each, by name.

    Raises:
        TrainingError: If one is smaller.

    Example:
        >>> check_limits("data", DataConfig(crop=0), crop=1)  # doctest: +SKIP
        TrainingError: data.crop must be at least 1, got 0
    """
    for name, limit in least.items():
        value = getattr(config, name)
        if not value >= limit:  # true for NaN, too
            raise TrainingError(f"{table}{'.' if table else ''}{name} must be at least {limit:g}, got {value}")
