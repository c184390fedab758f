"""The options that benchmarks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

RESULTS = Path(__file__).parent / "results"


def several(
    flag: str, name: str, choices: Iterable[str], default: Iterable[str] = ()
) -> Decorator:
    """An option that may be given again, for each of several choices."""
    default = list(default)
    text = "May be given again."
    if default:
        text += f" Default: {', '.join(default)}."
    return click.option(
        flag,
        name,
        multiple=True,
        type=click.Choice(list(choices)),
        default=default,
        help=text,
    )


cases = partial(several, "--case", "cases")
peers = partial(several, "--peer", "peers")


def count(flag: str, default: int | None = None, text: str = "") -> Decorator:
    """A number from 1 on."""
    return click.option(
        flag,
        type=click.IntRange(1),
        default=default,
        show_default=default is not None,
        help=text,
    )


repeats = partial(count, "--repeats", text="Interleaved; the least counts.")
limit = click.option(
    "--limit",
    default=900.0,
    show_default=True,
    help="Seconds for a process's start or repeat; then it is left out.",
)


def out(default: Path = RESULTS) -> Decorator:
    """`--out`: where results go."""
    return click.option(
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        help=f"Folder of the results; {default.relative_to(RESULTS.parents[1])} by "
        "default.",
    )
