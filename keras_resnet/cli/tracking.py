"""What MLflow has of runs: sync."""

from __future__ import annotations

import os
from pathlib import Path

import click

from keras_resnet.cli.group import main
from keras_resnet.errors import UserError
from keras_resnet.limits import clean


@main.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--tracking-uri", help="By default MLFLOW_TRACKING_URI or each run's own store."
)
def sync(folders: tuple[Path, ...], tracking_uri: str | None) -> None:
    """Send to MLflow what it lacks of runs.

    FOLDERS are run folders or folders of such; by default runs/. A run of this machine
    goes where it was to go when it was trained; for one from elsewhere, --tracking-uri
    names the store. What a store has is not sent again. A run that was killed and not
    continued is closed as KILLED. Exit code 1: not all could be sent.

    Example: keras-resnet sync runs/digits
    """
    from keras_resnet.tracking.address import store_address
    from keras_resnet.tracking.writer import sync as send_all

    runs = [run for folder in folders or (Path("runs"),) for run in _runs_in(folder)]
    chosen = tracking_uri or (
        store_address() if os.environ.get("MLFLOW_TRACKING_URI") else None
    )
    failed = False
    for row in send_all(runs, chosen):
        for line in row.refused:
            where = f"{row.run}: MLflow at {row.store}"
            click.echo(clean(f"{where} refused {line}"), err=True)
        if row.error:
            failed = True
            where = f"MLflow at {row.store} failed: " if row.store else ""
            click.echo(clean(f"{row.run}: {where}{row.error}"), err=True)
        else:
            done = f"sent to {row.store}" if row.sent else "nothing to send"
            click.echo(clean(f"{row.run}: {done}"))
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
