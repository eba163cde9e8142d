"""Reading a recipe: the TOML file fills whatever the command line leaves out."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App, ArgumentCollection
from cyclopts.config import Toml

from uprnet.errors import TrainingError


def apply_recipe(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Fill the settings that are not given from the file that the argument ``recipe`` names; a cyclopts config.

    Raises:
        TrainingError: If there is no such file.
    """
    for argument in arguments:
        if argument.name == "--recipe" and argument.tokens:
            path = Path(argument.tokens[0].value)
            if not path.is_file():
                raise TrainingError(f"there is no recipe {path}")
            Toml(path, search_parents=False, use_commands_as_keys=False)(app, commands, arguments)
