"""Serving: export, serve, publish, client."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import click

from keras_resnet import runtime
from keras_resnet.cli import options
from keras_resnet.cli.group import main
from keras_resnet.cli.output import print_classes, print_json, warnings_as_lines
from keras_resnet.errors import UserError
from keras_resnet.units import count

PORT = click.IntRange(0, 65_535)


@main.command()
@click.argument("run", type=options.PATH)
@click.option(
    "--to", type=options.PATH, help="The model's folder; by default the run's export/."
)
@click.option(
    "--format",
    "formats",
    default="saved_model",
    show_default=True,
    help="saved_model, litert, onnx, openvino; several with commas between.",
)
@click.option(
    "--quantize",
    type=click.Choice(["int8", "float16"]),
    help="int8: by the run's training images, several times faster; float16: half as "
    "large. Not of saved_model.",
)
@click.option(
    "--limit",
    default=1.0,
    show_default=True,
    type=options.Finite(0),
    help="Points of accuracy that int8 may lose; see docs/serving.md for other tasks.",
)
@click.option("--force", is_flag=True, help="Keep it if it loses more.")
@click.option("--version", type=click.IntRange(1), help="By default the next free one.")
@click.option("--fold/--no-fold", default=True, help="Batch norms into convolutions.")
@click.option("--licence", help="Of the model, to be noted in its files.")
@click.option(
    "--check/--no-check",
    default=True,
    help="Compare with the model in the format's own runtime, before it is published.",
)
@click.option("--unfinished", is_flag=True, help="A run that hasn't ended, as it is.")
@options.as_json
def export(
    run: Path,
    to: Path | None,
    formats: str,
    quantize: str | None,
    limit: float,
    force: bool,
    version: int | None,
    fold: bool,
    licence: str | None,
    check: bool,
    unfinished: bool,
    as_json: bool,
) -> None:
    """Write a run's best model for TF Serving, phones, ONNX or OpenVINO.

    By default a SavedModel, TO/VERSION, with what TF Serving needs; other formats are
    TO/FORMAT/VERSION. All take raw pixels and give probabilities, or a regression's
    values.

    Example: keras-resnet export runs/mine --to models/mine --format openvino
    --quantize int8
    """
    from keras_resnet import files
    from keras_resnet.run import EXPORT, Run
    from keras_resnet.serving import runtimes, server

    names = list(dict.fromkeys(name.strip() for name in formats.split(",")))
    runtimes.check_formats(names, quantize)
    if quantize != "int8" and (told := options.given() & {"limit", "force"}):
        raise UserError(f"{min(told)}: says nothing without --quantize int8")
    opened = Run(run)
    opened.check_trained()
    if not unfinished:
        server.check_ended(opened)
    place = to or run / EXPORT
    files.check_folder(place, "to")
    server.free_version(place, version)
    if quantize == "int8":
        opened.check_data()
    runtime.prepare()
    from keras_resnet.serving import exporting

    source = exporting.find(run, about={"licence": licence}, unfinished=unfinished)
    how = exporting.Options(quantize, version, fold, None, limit, force, check)
    with warnings_as_lines():
        paths = exporting.write(source, to, names, how)
    written = dict(zip(names, paths, strict=True))
    checks = {name: runtimes.read_check(path) for name, path in written.items()}
    _print_exports(written, checks, as_json)


def _print_exports(
    written: dict[str, Path], checks: dict[str, Any], as_json: bool
) -> None:
    """Where exports are, how far they are from the model, and what serves them."""
    from keras_resnet import serving
    from keras_resnet.serving import runtimes
    from keras_resnet.serving.runtimes import FORMATS

    saved = written.get("saved_model")
    line = serving.docker_line(saved.parent) if saved else None
    if as_json:
        first = next(iter(written))
        each = {
            name: {"path": str(path), "check": checks[name]}
            for name, path in written.items()
        }
        print_json({**each[first], "serve": line, "formats": each}, None)
        return
    for name, path in written.items():
        click.echo(f"{'SavedModel' if name == 'saved_model' else name:<12}{path}")
        _print_check(checks[name])
        if name != "saved_model":
            click.echo(f"{'':<12}served by {FORMATS[name].server}")
    if saved:
        click.echo(f"\nserve it:\n  {line}\n")
        click.echo("ask it:")
        url = f"http://localhost:8501/{serving.name_of(saved.parent)}"
        several = runtimes.describe(saved)["task"] == "labels"
        click.echo(
            f"  keras-resnet client IMAGE... --url {url}" + " --multi-label" * several
        )


def _print_check(checked: dict[str, Any] | None) -> None:
    if checked is None:
        return
    for row in checked.get("signatures", ()):
        click.echo(
            f"checked     {row['signature']} from {row['input']}: differs by "
            f"{row['difference']:.1e}, {row['milliseconds']:.2f} ms an image"
        )
    if "bytes" in checked:
        same = count(checked["images"], "image")
        if "agreement" in checked:
            same = f"same class of {checked['agreement']:.0%} of {same}"
        click.echo(
            f"checked     differs by {checked['difference']:.1e}, {same}, "
            f"{checked['milliseconds']['1']:.2f} ms an image, "
            f"{checked['bytes'] / 1e6:.2f} MB"
        )
    for name in ("validation", "test", "calibration"):
        if found := checked.get(name):
            low, high = found["interval_points"]
            measure = found.get("measure", "accuracy")
            of = "" if measure == "accuracy" else f"{measure} "
            points = f"{found['difference_points']:+.2f} points"
            click.echo(
                f"int8        {name}: {of}{found['int8']:.2%} of "
                f"{count(found['images'], 'image')}, float32 {found['float32']:.2%}; "
                f"{points} (95 %: {low:+.2f} to {high:+.2f})"
            )


@main.command()
@click.argument("model", type=options.PATH)
@click.option(
    "--rest-port", default=8501, type=PORT, show_default=True, help="0: a free one."
)
@click.option(
    "--grpc-port", default=8500, type=PORT, show_default=True, help="0: a free one."
)
@options.as_json
def serve(model: Path, rest_port: int, grpc_port: int, as_json: bool) -> None:
    """Serve a SavedModel on this machine, to try it out.

    MODEL is a model's folder, a version's, or a run's. It speaks TF Serving's REST and
    gRPC, on loopback alone; TF Serving is for production.

    Example: keras-resnet serve models/mine
    """
    from keras_resnet.serving.server import check_ports, find_versions

    find_versions(model)
    check_ports(rest_port, grpc_port)
    runtime.prepare()
    from keras_resnet.serving.local import Server

    server = Server(model, rest_port, grpc_port)
    if as_json:
        print_json(server.urls, None)
    else:
        click.echo("Ctrl-C ends it; ask it:")
        for url in server.urls.values():
            click.echo(f"  keras-resnet client IMAGE... --url {url}")
    with contextlib.suppress(KeyboardInterrupt):
        server.run()


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
    from keras_resnet.serving.publish import find_alias
    from keras_resnet.serving.publish import publish as run_publishing
    from keras_resnet.serving.server import check_label, name_of
    from keras_resnet.tracking import address

    check_label(folder, alias, version)
    if version and (registered or tracking_uri):
        raise UserError(
            "version: one of the folder's needs no registry; leave --model and "
            "--tracking-uri out"
        )
    address.set_environment()
    uri = tracking_uri or address.store_address()
    if version is None:
        find_alias(registered or name_of(folder), alias, uri)
    runtime.prepare()
    with warnings_as_lines():
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
@click.option("--multi-label", is_flag=True, help="An image may have several labels.")
@options.as_json
def client(
    images: tuple[Path, ...], url: str, version: int | None, label: str | None,
    timeout: float, retries: int, multi_label: bool, as_json: bool,
) -> None:  # fmt: skip
    """Ask a server for the classes of image files, folders or patterns.

    Images that can't be read are named, with exit code 1; the others have answers.

    Example: keras-resnet client photo.jpg --url http://localhost:8501/mine
    """
    from keras_resnet.data.inputs import list_images, why_none
    from keras_resnet.serving import Client
    from keras_resnet.serving.client import check_asked, parse_url

    parse_url(url)
    check_asked(version, label, timeout, retries)
    with warnings_as_lines():
        paths = list_images(images)
    if none := why_none(paths):
        print_classes([], none, as_json)
    if url.startswith("grpc:"):
        runtime.prepare()  # its messages need TensorFlow
    failed: list[tuple[Path, UserError]] = []
    with Client(
        url,
        version=version,
        label=label,
        timeout=timeout,
        retries=retries,
        multi_label=multi_label,
    ) as server:
        answers = server.predict_files(paths, lambda *lost: failed.append(lost))
    lost = {path for path, _ in failed}
    asked = [path for path in paths if path not in lost]
    if answers.values is not None:
        values = [
            (path, dict(zip(names, map(float, row), strict=True)))
            for path, names, row in zip(
                asked, answers.labels, answers.values, strict=True
            )
        ]
        print_classes(values, failed, as_json, "regression")
        return
    best = (-answers.probabilities).argsort(axis=-1, kind="stable")
    rows = []
    for path, names, row, order in zip(
        asked,
        answers.labels,
        answers.probabilities,
        best,
        strict=True,
    ):
        named = names if as_json else names[:3]
        shares = [float(row[i]) for i in order[: len(named)]]
        rows.append((path, dict(zip(named, shares, strict=True))))
    print_classes(rows, failed, as_json)
