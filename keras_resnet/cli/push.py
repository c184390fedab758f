"""push: a run onto the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main


@main.command()
@click.argument("run", type=options.PATH)
@click.argument("repository")
@click.option("--licence", help="Its name on the hub, such as apache-2.0.")
@click.option("--private", is_flag=True, help="If the repository is made.")
@click.option(
    "--dry-run", type=options.PATH, help="A new folder for the files; nothing is sent."
)
def push(
    run: Path, repository: str, licence: str | None, private: bool, dry_run: Path | None
) -> None:
    """Publish a finished run on the Hugging Face Hub as OWNER/NAME.

    It gets the model for Keras, weights and config.json for timm where timm has the
    network, the recipe, and a model card. Log in by `hf auth login`, or HF_TOKEN.

    Example: keras-resnet push runs/mine me/flowers --licence apache-2.0
    """
    from keras_resnet.run import Run
    from keras_resnet.weights import hub

    hub.check_push(Run(run), repository, licence, dry_run)
    runtime.prepare()
    from keras_resnet import weights

    place = weights.push(
        run, repository, licence=licence, private=private, dry_run=dry_run
    )
    click.echo(place)
