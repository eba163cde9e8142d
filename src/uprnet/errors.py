"""The errors that uprnet raises on purpose.

Every message is one line that says what was required, what came and, where it helps, what to do. The command
line prints that line and exits with 1; anything that is not an `UprnetError` is a bug in uprnet.
"""


class UprnetError(Exception):
    """Base of all errors that uprnet raises on purpose."""


class InvalidInputError(UprnetError, ValueError):
    """An argument, an array or an option has the wrong size, type or value."""


class WeightsError(UprnetError):
    """A weights file cannot be read or does not fit the network."""


class MediaError(UprnetError):
    """An image, a folder of images or a video cannot be read or written."""


class OutputExistsError(MediaError):
    """The output is already there and overwriting was not asked for."""


class MissingDependencyError(UprnetError, ImportError):
    """An optional library is needed that is not installed."""


class TrainingError(UprnetError):
    """Training cannot start or cannot go on: bad data, a bad recipe, a checkpoint that does not fit."""
