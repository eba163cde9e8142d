"""Train without the command line tool: ``python -m uprnet.training RECIPE.toml [--resume] [--any.field value ...]``.

It is what a launcher starts on each process: ``torchrun --nproc-per-node 8 -m uprnet.training RECIPE.toml``.
"""

import logging
import sys
from pathlib import Path

from uprnet.errors import TrainingError, UprnetError
from uprnet.training.config import read_recipe
from uprnet.training.loop import train

logger = logging.getLogger("uprnet.training")


def main(arguments: list[str]) -> int:
    """Run a recipe.

    Args:
        arguments: What follows the module on the command line.

    Returns:
        Exit code: 0, or 1 after a mistake that was said in one line.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        recipe, resume, overrides = _parse(arguments)
        result = train(read_recipe(recipe, overrides), resume=resume)
    except UprnetError as error:
        logger.error("%s", error)  # noqa: TRY400 (a mistake of the user needs no traceback)
        return 1
    logger.info("done: %s", result)
    return 0


def _parse(arguments: list[str]) -> tuple[Path, bool, dict[str, str]]:
    usage = "usage: python -m uprnet.training RECIPE.toml [--resume] [--any.field value ...]"
    rest = [argument for argument in arguments if argument != "--resume"]
    if len(rest) % 2 == 0 or any(not name.startswith("--") for name in rest[1::2]):
        raise TrainingError(usage)
    overrides = {name.removeprefix("--"): value for name, value in zip(rest[1::2], rest[2::2], strict=True)}
    return Path(rest[0]), "--resume" in arguments, overrides


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
