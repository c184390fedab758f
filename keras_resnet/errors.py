"""What a user can put right."""

from __future__ import annotations

import re

from keras_resnet import limits


class UserError(ValueError):
    """A mistake in what the user gave; the message is one line.

    It says what is wrong, where, and what would be right, in at most `limits.MESSAGE`
    characters, however long what was given is. The command line prints it and exits
    with 2.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(limits.message(message))


def one_line(error: BaseException) -> str:
    """Why something failed: the first line of an error, or its kind if it has none.

    Of a connection that an HTTP library describes at length, the system's own words;
    without the addresses of objects and characters that can't be shown.
    """
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    if refused := re.search(r"Max retries exceeded.*(\[Errno -?\d+\] [\w ]+)", text):
        text = refused[1]
    return limits.message(re.sub(r" object at 0x[0-9a-f]+", "", text))


class RunFolderError(UserError):
    """A folder that isn't a run, or holds another."""


class ExportError(UserError):
    """A model or folder that can't be exported, read or served."""


class ExportWarning(UserWarning):
    """Something of an export that is no longer as it was."""


class BudgetError(UserError):
    """A budget that is none, or that nothing meets."""


class SpecError(UserError):
    """A spec, preset name or size that can't be built."""


class AugmentError(UserError):
    """Settings of augmentation that make no sense."""


class RecipeError(UserError):
    """A recipe that can't be run."""


class WeightsError(UserError):
    """Weights that can't be fetched or read, or don't fit."""


class WeightsWarning(UserWarning):
    """What was chosen in a file of weights that could be read in several ways."""
