"""The logged model with signature and example; its versions in the registry."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from keras_resnet.tracking.buffer import Buffer, Sent

FOLDER = "model"  # in the folder of the events, laid out as MLflow has models


def save(model: Any, folder: Path, sample: Any, about: dict[str, Any]) -> None:
    """Writes a Keras model as MLflow keeps it, without a store.

    Args:
        model: of stock layers, so that it loads without this package.
        folder: a new one.
        sample: inputs (batch, height, width, channels); signature and example.
        about: metadata that stays with the model.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import keras
    import mlflow
    import tensorflow as tf

    folder.mkdir(parents=True)  # MLflow writes the example before it makes the folder
    mlflow.keras.save_model(
        model,
        str(folder),
        signature=mlflow.models.infer_signature(
            sample, model.predict(sample, verbose=0)
        ),
        input_example=sample,
        # Inferring them takes ten seconds.
        pip_requirements=[
            f"keras=={keras.__version__}",
            f"tensorflow=={tf.__version__}",
        ],
        metadata=about,
    )


def send(client: Any, buffer: Buffer, sent: Sent) -> None:
    """Uploads the model of a run; one that is there half goes on."""
    from mlflow.entities import LoggedModelOutput
    from mlflow.models import Model

    run = client.get_run(sent.run_id)
    if sent.model_id is None:
        experiment = run.info.experiment_id
        found = client.search_logged_models(
            [experiment], filter_string=f"source_run_id = '{sent.run_id}'"
        )
        logged = next(iter(found), None) or client.create_logged_model(
            experiment, name="model", source_run_id=sent.run_id, params=run.data.params
        )
        sent.model_id = logged.model_id
    logged = client.get_logged_model(sent.model_id)
    folder = buffer.folder / FOLDER
    client.log_model_artifacts(sent.model_id, str(folder))
    described = Model.load(str(folder))
    described.model_id = described.model_uuid = sent.model_id
    described.run_id = sent.run_id
    described.artifact_path = logged.artifact_location
    with tempfile.TemporaryDirectory() as place:
        described.save(str(Path(place, "MLmodel")))
        client.log_model_artifact(sent.model_id, str(Path(place, "MLmodel")))
    client.finalize_logged_model(sent.model_id, "READY")
    outputs = run.outputs.model_outputs if run.outputs else []
    if sent.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(sent.run_id, [LoggedModelOutput(sent.model_id, step=0)])


def register(client: Any, sent: Sent, wanted: str) -> None:
    """Makes the logged model a version of `wanted`, "NAME" or "NAME@alias"."""
    from mlflow.exceptions import MlflowException

    name, _, alias = wanted.partition("@")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"run_id = '{sent.run_id}'")
    version = next((v for v in versions if v.name == name), None)
    if version is None:
        location = client.get_logged_model(sent.model_id).artifact_location
        version = client.create_model_version(
            name, location, run_id=sent.run_id, model_id=sent.model_id
        )
    if alias:
        client.set_registered_model_alias(name, alias, version.version)
