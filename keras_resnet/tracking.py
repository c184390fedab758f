"""MLflow: every run with its parameters, metrics, files and model.

MLflow receives copies; the run folder is the truth. A tracking server that is slow,
dead or full never ends a training run: what fails is said once and left out.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

DEFAULT_STORE = "sqlite:///mlflow.db"

# MLflow's own defaults wait for minutes on a dead server, send usage statistics, and
# tell of each table of a new database.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


class Tracker(Protocol):
    """What training tells of a run; no method may raise."""

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Opens the run."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of an epoch."""

    def log_files(self, paths: list[Path]) -> None:
        """Copies of files and folders."""

    def log_model(self, model: Any, sample: Any) -> None:
        """The trained model, in stock Keras layers, with an input for its signature."""

    def finish(self, status: str) -> None:
        """Closes the run as "FINISHED", "FAILED" or "KILLED"."""


class MLflowTracker:
    """Logs to MLflow: at `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` here.

    Args:
        experiment: the experiment's name.
        console: where a failure is said.
    """

    def __init__(
        self, experiment: str = "keras_resnet", console: Console | None = None
    ) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self.experiment = experiment
        self.console = console or Console(stderr=True)
        self.uri = os.environ.get("MLFLOW_TRACKING_URI", DEFAULT_STORE)
        self.run_id: str | None = None
        self.failed = False
        self._client: Any = None

    def start(self, name: str, params: Mapping[str, Any]) -> None:
        """Opens the run."""

        def start() -> None:
            import mlflow

            # A client of our own leaves alone a run that the caller has active.
            self._client = client = mlflow.MlflowClient(self.uri)
            experiment = client.get_experiment_by_name(self.experiment)
            experiment_id = (
                experiment.experiment_id
                if experiment
                else client.create_experiment(self.experiment)
            )
            run = client.create_run(experiment_id, run_name=name)
            self.run_id = run.info.run_id
            entities = [
                mlflow.entities.Param(key, str(value)) for key, value in params.items()
            ]
            client.log_batch(self.run_id, params=entities)

        self._try("start a run", start)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of an epoch."""

        def log() -> None:
            from mlflow.entities import Metric

            now = round(time.time() * 1000)
            entities = [Metric(key, value, now, step) for key, value in metrics.items()]
            self._client.log_batch(self.run_id, metrics=entities)

        self._try("log metrics", log)

    def log_files(self, paths: list[Path]) -> None:
        """Copies of files and folders."""

        def log() -> None:
            for path in paths:
                self._client.log_artifact(self.run_id, str(path))

        self._try("log files", log)

    def log_model(self, model: Any, sample: Any) -> None:
        """The trained model, in stock Keras layers, with an input for its signature."""

        def log() -> None:
            import keras
            import mlflow
            import tensorflow as tf

            signature = mlflow.models.infer_signature(
                sample, model.predict(sample, verbose=0)
            )
            requirements = [
                # Inferring them takes ten seconds.
                f"keras=={keras.__version__}",
                f"tensorflow=={tf.__version__}",
            ]
            # Only the active run can be given a model.
            set_before = mlflow.is_tracking_uri_set()
            callers: Any = mlflow.get_tracking_uri() if set_before else None
            mlflow.set_tracking_uri(self.uri)
            try:
                with mlflow.start_run(self.run_id, nested=True):
                    mlflow.keras.log_model(
                        model,
                        name="model",
                        signature=signature,
                        pip_requirements=requirements,
                    )
            finally:
                mlflow.set_tracking_uri(callers)

        self._try("log the model", log)

    def finish(self, status: str) -> None:
        """Closes the run as "FINISHED", "FAILED" or "KILLED"."""
        if self.run_id is None:
            return
        if not self.failed:
            self._try("close the run", lambda: self._close(status))
            return
        # A metric was lost, and said so; the run may be there all the same.
        with contextlib.suppress(Exception):
            self._close(status)

    def _close(self, status: str) -> None:
        self._client.set_terminated(self.run_id, status)

    def _try(self, what: str, action: Callable[[], None]) -> None:
        """Runs one call; after the first that fails, no more are tried."""
        if self.failed:
            return
        try:
            action()
        except Exception as error:  # whatever a tracking server does, training goes on
            self.failed = True
            reason = str(error).strip().splitlines() or [type(error).__name__]
            self.console.print(
                f"MLflow at {self.uri} could not {what}: {reason[0]}; the run goes on "
                "and its folder keeps everything",
                style="yellow",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
