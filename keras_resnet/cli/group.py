"""The command itself: a user's mistake is one line and exit code 2."""

from __future__ import annotations

from typing import Any

import click

from keras_resnet.errors import UserError
from keras_resnet.version import __version__


class _Mistake(click.ClickException):
    """A user's mistake: one line, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands may raise `UserError`."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what a user did wrong becomes a line."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Mistake(str(error)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Residual networks for Keras: list, show, train, evaluate, predict."""
