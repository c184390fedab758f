"""A model registry's alias -> a version that is served and labelled with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keras_resnet.errors import ExportError, one_line
from keras_resnet.files import load_keras
from keras_resnet.serving import runtimes, server


def publish(
    path: Path | str,
    alias: str,
    *,
    registered: str | None = None,
    version: int | None = None,
    tracking_uri: str | None = None,
) -> Path:
    """Gives the label `alias` to a version, which is exported first if it isn't there.

    A server that watches `server/models.config` moves the label without a restart.

    Args:
        path: the model's folder, that TF Serving watches.
        alias: of a registered model's version, such as "champion"; and the label.
        registered: the registered model's name; the folder's if None.
        version: a version that is in the folder: without the registry, as a
            rollback.
        tracking_uri: of MLflow; what MLflow takes by itself if None.

    Returns:
        The version's folder. It is numbered as in the registry, unless the folder has
        another model of that number.

    Raises:
        ExportError: no such alias, model or version, a registry that can't be read, or
            a registered model that is no classifier.
    """
    path = Path(path)
    server.check_label(path, alias, version)
    if version is None:
        version = _from_registry(
            path, alias, registered or server.name_of(path), tracking_uri
        )
    server.configure(path, {alias: version})
    return path / str(version)


def find_alias(
    registered: str, alias: str, tracking_uri: str | None = None
) -> tuple[Any, Any]:
    """MLflow's client, and the version that an alias stands for; no TensorFlow.

    Raises:
        ExportError: no such model or alias, or a registry that can't be read.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        client = mlflow.MlflowClient(tracking_uri, tracking_uri)
        return client, client.get_model_version_by_alias(registered, alias)
    except MlflowException as error:
        raise ExportError(
            f"alias: can't find {registered}@{alias} in MLflow at "
            f"{tracking_uri or mlflow.get_tracking_uri()}: {one_line(error)}"
        ) from None


def _from_registry(
    path: Path, alias: str, registered: str, tracking_uri: str | None
) -> int:
    """The version that an alias stands for, exported if it isn't yet."""
    import mlflow
    from mlflow.exceptions import MlflowException

    from keras_resnet.serving.exporting import export, weights_digest

    client, found = find_alias(registered, alias, tracking_uri)
    of_registry = {
        "mlflow_run": found.run_id,
        "registered": registered,
        "registered_version": int(found.version),
    }
    known = {number: _described(path, number) for number in server.versions(path)}
    for number, described in known.items():
        if described.get("run") == of_registry:
            return number
    try:
        source = client.get_model_version_download_uri(registered, found.version)
        folder = mlflow.artifacts.download_artifacts(source, tracking_uri=tracking_uri)
        metadata = mlflow.models.Model.load(folder).metadata or {}
        # Not by MLflow, which opens whatever place MLmodel names.
        model = load_keras(Path(folder, "data", "model.keras"))
        run = client.get_run(found.run_id).data if found.run_id else None
    except (MlflowException, OSError, ValueError) as error:
        reason = one_line(error)
        raise ExportError(
            f"alias: can't load {registered}@{alias}, version {found.version}: {reason}"
        ) from None
    digest = weights_digest(model)
    for number, described in known.items():
        if described.get("weights") == digest:  # exported from its run
            return number
    about = {"run": of_registry, "metrics": dict(run.metrics) if run else {}}
    names = metadata.get("class_names")
    number = int(found.version)
    exported = export(
        model,
        path,
        version=None if number in known else number,
        class_names=names,
        about=about,
    )
    return int(exported.name)


def _described(path: Path, version: int) -> dict[str, Any]:
    """What is known of a version; nothing of what another program has put there."""
    try:
        return runtimes.describe(path / str(version))
    except ExportError:
        return {}
