"""Events of a run -> calls of MLflow, each event once."""

from __future__ import annotations

import json
import os
import re
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from keras_resnet.errors import one_line
from keras_resnet.files import TEMPORARY
from keras_resnet.limits import hide_passwords
from keras_resnet.tracking import origin, registry
from keras_resnet.tracking.address import set_environment, uploading
from keras_resnet.tracking.buffer import Buffer, Event, Sent

RUN_TAG = "keras_resnet.run"  # a run's own id, by which it is found in any store

_MOST_METRICS, _MOST_PARAMS = 1000, 100  # of a request, by MLflow's rules
_LONGEST_NAME, _LONGEST_DIGEST = 500, 36  # of a data set, by them too
_REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}  # no retry will help


class Refused(Exception):
    """An event that is not sent, and why."""

    error_code = "INVALID_PARAMETER_VALUE"


class DeletedError(Exception):
    """An experiment that no run can be sent to until it is restored."""


def _open_database(address: str) -> None:
    """Opens a database of SQLite, or makes it if it isn't there, whole or not at all.

    At one that can't be opened MLflow tries for an hour; one that it had half made, as
    the disk was full or by a kill, never opens again.

    Raises:
        OSError, sqlite3.Error: it can't be.
    """
    import mlflow

    found = re.fullmatch(r"sqlite:///([^?]+)", address)
    if found is None:
        return
    path = Path(found[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        with closing(sqlite3.connect(path)) as database:
            database.execute("SELECT count(*) FROM sqlite_master")
        return
    temporary = path.with_name(f"{TEMPORARY}{secrets.token_hex(4)}-{path.name}")
    try:
        temporary.touch()
        mlflow.MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
        # Another process may have made it meanwhile; or the disk knows no links, and
        # MLflow makes it itself.
        with suppress(OSError):
            os.link(temporary, path)
    finally:
        for left in path.parent.glob(f"{temporary.name}*"):  # and its journal
            left.unlink()


class Store:
    """An MLflow store, at a server's address or in a database."""

    def __init__(self, address: str) -> None:
        set_environment()
        self.address = address
        self._client: Any = None

    @property
    def client(self) -> Any:
        """MLflow's client; made when first used, as that may open a database."""
        if self._client is None:
            import mlflow

            _open_database(self.address)
            self._client = mlflow.MlflowClient(self.address)
        return self._client

    def answers(self) -> bool:
        """Whether it is there: what failed was then the run's."""
        try:
            self.client.search_experiments(max_results=1)
        except Exception:  # any: the network's, the server's, the database's
            return False
        return True

    def send(self, buffer: Buffer, sent: Sent, events: list[Event]) -> Iterator[None]:
        """Sends events in their order; yields whenever `sent` has moved on.

        Raises:
            Exception: whatever MLflow raises; what was sent is noted in `sent`.
        """
        for batch in _batches(events):
            self._deliver(buffer, sent, batch)
            sent.offset = batch[-1].end
            yield

    def _deliver(self, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
        """Sends events together; notes which of them the store will never take."""
        kind = batch[0].kind
        try:
            _SENDERS[kind](self, buffer, sent, batch)
        except Exception as error:
            if kind == "start" or getattr(error, "error_code", "") not in _REFUSALS:
                raise
            if len(batch) > 1:
                for event in batch:
                    self._deliver(buffer, sent, [event])
            elif (
                refusal := hide_passwords(f"{kind}: {one_line(error)}")
            ) not in sent.refused:
                sent.refused.append(refusal)

    def open_run(self, buffer: Buffer, sent: Sent) -> str:
        """The run's id in this store, where it is made if it isn't there."""
        start = buffer.first()
        if start is None:
            raise ValueError(f"{buffer.folder} has no start")
        experiment = self._experiment(start.fields["experiment"])
        own = start.fields["run"]
        found = self.client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{own}'")
        if found:
            return str(found[0].info.run_id)
        parent = start.fields["parent_id"]
        if above := buffer.parent():
            parent = self._run_of(above)
        nested = {"mlflow.parentRunId": parent} if parent else {}
        run = self.client.create_run(
            experiment,
            start_time=start.time,
            run_name=start.fields["name"],
            tags={RUN_TAG: own} | nested,
        )
        return str(run.info.run_id)

    def _run_of(self, buffer: Buffer) -> str:
        """The id of another run, which may have to be made first."""
        with buffer.sending():
            sent = buffer.sent(self.address)
            if sent.run_id is None:
                sent.run_id = self.open_run(buffer, sent)
                buffer.record(self.address, sent)
            return sent.run_id

    def _experiment(self, name: str) -> str:
        """An experiment's id."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException:  # another process was faster
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        if found.lifecycle_stage == "deleted":
            raise DeletedError(
                f"experiment {name!r} is deleted there; restore it by mlflow "
                f"experiments restore --experiment-id {found.experiment_id}"
            )
        return str(found.experiment_id)


def _batches(events: list[Event]) -> Iterator[list[Event]]:
    """Metrics that follow on each other, in requests of the size that MLflow takes."""
    for kind, group in groupby(events, key=lambda event: event.kind):
        if kind != "metrics":
            yield from ([event] for event in group)
            continue
        batch: list[Event] = []
        points = 0
        for event in group:
            more = len(event.fields["metrics"])
            if batch and points + more > _MOST_METRICS:
                yield batch
                batch, points = [], 0
            batch.append(event)
            points += more
        yield batch


def _send_start(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    sent.run_id = sent.run_id or store.open_run(buffer, sent)


def _send_resume(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    store.client.update_run(sent.run_id, status="RUNNING")


def _send_params(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    from mlflow.entities import Param

    params = [Param(k, v) for k, v in sorted(batch[0].fields["params"].items())]
    for i in range(0, len(params), _MOST_PARAMS):
        store.client.log_batch(sent.run_id, params=params[i : i + _MOST_PARAMS])


def _send_tags(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    from mlflow.entities import RunTag

    tags = [RunTag(k, v) for k, v in batch[0].fields["tags"].items()]
    store.client.log_batch(sent.run_id, tags=tags)


def _send_metrics(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    """With their own times: a store leaves out a point that it has."""
    from mlflow.entities import Metric

    metrics = [
        Metric(key, value, event.time, event.fields["step"])
        for event in batch
        for key, value in event.fields["metrics"].items()
    ]
    store.client.log_batch(sent.run_id, metrics=metrics)


def _send_data(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.entities import Dataset, DatasetInput, InputTag

    fields = batch[0].fields
    data = Dataset(
        name=fields["name"][:_LONGEST_NAME],
        digest=fields["digest"][:_LONGEST_DIGEST],
        source_type="code",
        source=CodeDatasetSource(fields["source"]).to_json(),
        profile=json.dumps(fields["profile"]),
    )
    tags = [InputTag("mlflow.data.context", "training")]
    store.client.log_inputs(sent.run_id, [DatasetInput(data, tags)])


def _send_file(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    path = buffer.run / batch[0].fields["path"]
    if path.exists():  # an intermediate one may have gone
        _check_own(buffer, path)
        with uploading():
            store.client.log_artifact(sent.run_id, str(path))


def _send_model(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    _check_own(buffer, buffer.folder / registry.FOLDER)
    with uploading():
        registry.send(store.client, buffer, sent)
    _send_model_metrics(store, buffer, sent, batch[0])
    if name := batch[0].fields["register"]:
        if not buffer.is_ours():
            raise Refused(
                f"{name} is registered by whom the run is from, not for a folder from "
                "another machine"
            )
        registry.register(store.client, sent, name)


def _check_own(buffer: Buffer, path: Path) -> None:
    if not origin.is_own(buffer.run, path):
        raise Refused(f"{path} leads out of the run folder, or is no regular file")


def _send_model_metrics(store: Store, buffer: Buffer, sent: Sent, model: Event) -> None:
    """The run's own points, once more: it has them already, the model has not."""
    from mlflow.entities import Metric

    told = {
        key: Metric(
            key, value, event.time, event.fields["step"], model_id=sent.model_id
        )
        for event in buffer.events()
        if event.kind == "metrics" and event.end < model.end
        for key, value in event.fields["metrics"].items()
    }
    names = map(str, model.fields.get("metrics", ()))
    found = [told[name] for name in names if name in told]
    for i in range(0, len(found), _MOST_METRICS):
        store.client.log_batch(sent.run_id, metrics=found[i : i + _MOST_METRICS])


def _send_end(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    event = batch[0]
    store.client.set_terminated(sent.run_id, event.fields["status"], event.time)


def _send_child(store: Store, buffer: Buffer, sent: Sent, batch: list[Event]) -> None:
    """Nothing: a child sends its own."""


_SENDERS: dict[str, Callable[[Store, Buffer, Sent, list[Event]], None]] = {
    "start": _send_start,
    "resume": _send_resume,
    "params": _send_params,
    "tags": _send_tags,
    "metrics": _send_metrics,
    "data": _send_data,
    "file": _send_file,
    "model": _send_model,
    "end": _send_end,
    "child": _send_child,
}
