"""The command itself, and how it ends early: by a mistake or by Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import click

from keras_resnet.errors import UserError
from keras_resnet.version import __version__


class _Mistake(click.ClickException):
    """A user's mistake: one line, exit code 2."""

    exit_code = 2


class Commands(click.Group):
    """A group whose commands may raise `UserError`, or be ended by Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs a command; what a user did wrong becomes a line."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise _Mistake(str(error)) from None
        except KeyboardInterrupt:  # where there is nothing to resume, as in imports
            click.echo("\nstopped", err=True)
            raise SystemExit(130) from None


@contextlib.contextmanager
def stoppable(how: str = "the same command") -> Iterator[None]:
    """Ctrl-C, or a signal that ends a run, becomes a line: `how` it is resumed."""
    try:
        yield
    except KeyboardInterrupt as stop:
        click.echo(f"\nstopped; {how} goes on")
        raise SystemExit(getattr(stop, "code", 130)) from None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Residual networks for Keras: list, show, train, evaluate, predict."""
