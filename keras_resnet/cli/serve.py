"""Serving: export, publish, client."""

from __future__ import annotations

import json
from pathlib import Path

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main


@main.command()
@click.argument("run", type=options.PATH)
@click.option(
    "--to", type=options.PATH, help="The model's folder; by default the run's export/."
)
@click.option("--version", type=click.IntRange(1), help="By default the next free one.")
@click.option("--fold/--no-fold", default=True, help="Batch norms into convolutions.")
@click.option(
    "--check/--no-check",
    default=True,
    help="Compare with the model in a process without Keras, before it is published.",
)
@click.option("--unfinished", is_flag=True, help="A run that hasn't ended, as it is.")
@options.as_json
def export(
    run: Path, to: Path | None, version: int | None, fold: bool, check: bool,
    unfinished: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write a run's best model as a SavedModel, with what TF Serving needs.

    Example: keras-resnet export runs/mine --to models/mine
    """
    from keras_resnet.run import Run

    Run(run).check_trained()
    runtime.prepare()
    from keras_resnet import serving
    from keras_resnet.serving.check import CHECK

    path = serving.export(
        run, to, version=version, fold=fold, check=check, unfinished=unfinished
    )
    checked = json.loads((path / CHECK).read_text()) if check else None
    line = serving.docker_line(path.parent)
    if as_json:
        click.echo(json.dumps({"path": str(path), "check": checked, "serve": line}))
        return
    click.echo(f"SavedModel  {path}")
    for row in checked["signatures"] if checked else ():
        click.echo(
            f"checked     {row['signature']} from {row['input']}: differs by "
            f"{row['difference']:.1e}, {row['milliseconds']:.2f} ms an image"
        )
    click.echo(f"\nserve it:\n  {line}\n")
    click.echo("ask it:")
    url = f"http://localhost:8501/{serving.name_of(path.parent)}"
    click.echo(f"  keras-resnet client IMAGE... --url {url}")


@main.command()
@click.argument("folder", type=options.PATH)
@click.option("--alias", required=True, help="In MLflow's registry; and the label.")
@click.option(
    "--model", "registered", help="Registered model; by default the folder's."
)
@click.option(
    "--version", type=click.IntRange(1), help="One of the folder's, to go back to."
)
@click.option(
    "--tracking-uri", help="By default MLFLOW_TRACKING_URI or mlflow.db here."
)
def publish(
    folder: Path, alias: str, registered: str | None, version: int | None,
    tracking_uri: str | None,
) -> None:  # fmt: skip
    """Serve the version that an alias of MLflow's registry stands for.

    FOLDER is a model's folder that TF Serving watches. The version is exported there,
    if it isn't yet, and gets the alias as its label; --version moves the label to one
    that is there, as a rollback.

    Example: keras-resnet publish models/mine --alias champion
    """
    runtime.prepare()
    from keras_resnet.serving.publish import publish as run_publishing
    from keras_resnet.tracking import address

    address.set_environment()
    uri = tracking_uri or address.store_address()
    path = run_publishing(
        folder, alias, registered=registered, version=version, tracking_uri=uri
    )
    click.echo(f"{alias}  {path}")


@main.command()
@click.argument("images", nargs=-1, required=True, type=options.PATH)
@click.option("--url", required=True, help="http://HOST:PORT/NAME or grpc://...")
@click.option(
    "--version", type=click.IntRange(1), help="By default the server's choice."
)
@click.option("--label", help="Of a version, such as champion.")
@click.option("--timeout", default=30.0, show_default=True, help="Seconds.")
@click.option("--retries", default=3, type=click.IntRange(0), show_default=True)
@options.as_json
def client(
    images: tuple[Path, ...], url: str, version: int | None, label: str | None,
    timeout: float, retries: int, as_json: bool,
) -> None:  # fmt: skip
    """Ask a server for the classes of image files.

    Example: keras-resnet client photo.jpg --url http://localhost:8501/mine
    """
    if url.startswith("grpc:"):
        runtime.prepare()  # its messages need TensorFlow
    from keras_resnet.serving import Client

    with Client(
        url, version=version, label=label, timeout=timeout, retries=retries
    ) as server:
        answers = server.predict_files(images)
    best = (-answers.probabilities).argsort(axis=-1, kind="stable")
    rows = []
    for path, names, row, order in zip(
        images, answers.labels, answers.probabilities, best, strict=True
    ):
        shares = [float(row[i]) for i in order[: len(names)]]
        rows.append((path, dict(zip(names, shares, strict=True))))
    if as_json:
        found = [{"image": str(path), "classes": classes} for path, classes in rows]
        click.echo(json.dumps(found, indent=2))
        return
    for path, classes in rows:
        guesses = "  ".join(f"{name} {p:.1%}" for name, p in list(classes.items())[:3])
        click.echo(f"{path}: {guesses}")
