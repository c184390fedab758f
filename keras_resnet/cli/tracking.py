"""What MLflow has of runs: sync."""

from __future__ import annotations

import os
from pathlib import Path

import click

from keras_resnet.cli.group import main
from keras_resnet.errors import UserError


@main.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
def sync(folders: tuple[Path, ...]) -> None:
    """Send to MLflow what it lacks of runs.

    FOLDERS are run folders or folders of such; by default runs/. Each run goes to
    MLFLOW_TRACKING_URI if that is set, else to where it was to go when it was trained.
    What a store has is not sent again. A run that was killed and not continued is
    closed as KILLED. Exit code 1: a store could not be reached.

    Example: keras-resnet sync runs/digits
    """
    from keras_resnet.tracking.address import store_address
    from keras_resnet.tracking.writer import sync as send_all

    runs = [run for folder in folders or (Path("runs"),) for run in _runs_in(folder)]
    chosen = store_address() if os.environ.get("MLFLOW_TRACKING_URI") else None
    failed = False
    for run, address, sent, error in send_all(runs, chosen):
        if error:
            failed = True
            click.echo(f"{run}: MLflow at {address} failed: {error}", err=True)
        else:
            click.echo(f"{run}: {f'sent to {address}' if sent else 'nothing to send'}")
    if failed:
        raise SystemExit(1)


def _runs_in(folder: Path) -> list[Path]:
    """The tracked runs in a folder, or the one that it is with those nested in it."""
    from keras_resnet.tracking.buffer import Buffer

    if Buffer(folder).exists():
        return [buffer.run for buffer in Buffer(folder).family()]
    found = sorted(path.parent.parent for path in folder.rglob("tracking/events.jsonl"))
    if not found:
        raise UserError(
            f"folder: {folder} "
            + ("holds no tracked run" if folder.exists() else "doesn't exist")
        )
    return found
