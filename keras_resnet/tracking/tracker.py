"""What training logs of a run, and how it gets to MLflow."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from keras_resnet import files, runtime
from keras_resnet.errors import UserError, one_line
from keras_resnet.limits import hide_passwords
from keras_resnet.tracking import origin, registry
from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.buffer import Buffer, private

# The longest that the end of a run waits: for what is still to be sent; while nothing
# can be sent; for the writer to end. In seconds.
SENDING, FAILING, LEAVING = 300, 10, 30
_LOG = "writer.log"


class TrackingError(UserError):
    """A setting of the tracking that can't be."""


class Tracker(Protocol):
    """What training logs of a run; no method may raise, nor wait for a server."""

    @property
    def run_id(self) -> str | None:
        """The run's id where it is sent to, as soon as it has one."""

    def start(self, name: str, params: Mapping[str, Any], folder: Path) -> None:
        """Opens the run, or resumes the one of this folder."""

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """What the run is found by; a later value replaces an earlier one."""

    def log_data(
        self, name: str, digest: str, source: Mapping[str, Any], profile: Any
    ) -> None:
        """The data set: what it is called, its hash, how it is loaded, its counts."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of an epoch; what the run already has of a step is left out."""

    def log_files(self, paths: list[Path]) -> None:
        """Copies of files and folders in the run folder."""

    def log_model(
        self,
        model: Any,
        sample: Any,
        about: Mapping[str, Any],
        metrics: Iterable[str] = (),
    ) -> None:
        """The trained model, in stock Keras layers, an input, what to know of it.

        Those of the metrics told before that are of this model stand by it too.
        """

    def finish(self, status: str) -> None:
        """Closes the run as "FINISHED", "FAILED" or "KILLED"."""


@contextlib.contextmanager
def closing(tracker: Tracker | None) -> Iterator[None]:
    """Closes a run, if there is one, as what became of it."""
    if tracker is None:
        yield
        return
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        tracker.finish("KILLED")
        raise
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish("FINISHED")


class MLflowTracker:
    """Logs to MLflow: at `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db` here.

    Everything is kept in the run folder first, and sent by a process of its own, which
    the end of the run gives a bounded time. Runs nested in one that is alive are sent
    by that one's process.

    Args:
        experiment: the experiment's name.
        console: where it is said that the store could not be reached.
        parent: the run that this one is nested in: its tracker, its run folder or its
            id in MLflow.
        tags: set on the run, before and above those that training sets.
        register: the name in the model registry under which the model becomes a
            version, as "NAME" or "NAME@alias".

    Raises:
        TrackingError: a name or a tag's key is none that MLflow takes.
    """

    def __init__(
        self,
        experiment: str = "keras_resnet",
        console: Console | None = None,
        *,
        parent: MLflowTracker | Path | str | None = None,
        tags: Mapping[str, str] | None = None,
        register: str | None = None,
    ) -> None:
        if register and not re.fullmatch(r"[^@/:]+(@[\w-]+)?", register):
            raise TrackingError(
                f"register: {register!r} is not NAME or NAME@alias, without / and :"
            )
        if register and re.fullmatch(r".*@(?i:latest|v\d+)", register):
            raise TrackingError(
                f"register: {register!r}: MLflow keeps the aliases latest and v1, v2, "
                "... for itself; name another"
            )
        for key in tags or {}:
            if not re.fullmatch(r"[\w. /:-]{1,250}", key):
                raise TrackingError(
                    f"tags: {key!r} is not of letters, digits, spaces and _ - . / :"
                )
        if not experiment:
            raise TrackingError("experiment: it has no name")
        self.experiment = experiment
        self.console = console or Console(stderr=True)
        self.parent = parent
        self.tags = dict(tags or {})
        self.register = register
        self.store = store_address()
        self.buffer: Buffer | None = None
        self.failed = False
        self._points: set[tuple[str, int]] = set()
        self._has_model = False
        self._alive: Any = None
        self._writer: subprocess.Popen[bytes] | None = None

    def __deepcopy__(self, memo: Any) -> MLflowTracker:
        """KerasTuner copies callbacks; a copy logs the same run."""
        return self

    def child(self, folder: Path) -> MLflowTracker:
        """A tracker of a run that is nested in the one of `folder`, this tracker's."""
        return MLflowTracker(self.experiment, self.console, parent=folder)

    @property
    def run_id(self) -> str | None:
        """The run's id in MLflow, once it is there."""
        return self.buffer.sent(self.store).run_id if self.buffer else None

    def start(self, name: str, params: Mapping[str, Any], folder: Path) -> None:
        """Opens the run, or resumes the one of this folder."""
        self.buffer = buffer = Buffer(folder)
        self.failed, self._writer = False, None
        parent = self._parent_folder()

        def start() -> None:
            self._alive = buffer.live()
            events = buffer.events()
            known = {key for e in events for key in e.fields.get("params", ())}
            self._points = {
                (key, e.fields["step"])
                for e in events
                if e.kind == "metrics"
                for key in e.fields["metrics"]
            }
            self._has_model = any(e.kind == "model" for e in events)
            store, first = hide_passwords(self.store), buffer.first()
            own = first.fields["run"] if first else uuid.uuid4().hex
            origin.remember(own, store)
            if first:
                buffer.append("resume", store=store)
            else:
                buffer.append(
                    "start",
                    store=store,
                    run=own,
                    name=name,
                    experiment=self.experiment,
                    parent_folder=os.path.relpath(parent, folder) if parent else None,
                    parent_id=None if parent else self._parent_id(),
                )
            new = {k: str(v) for k, v in params.items() if k not in known}
            buffer.append("params", params=new)
            buffer.append("tags", tags=_source_tags() | self.tags)
            if parent:
                Buffer(parent).append("child", folder=os.path.relpath(folder, parent))

        self._try(start)
        if not self.failed and not (parent and self._is_followed(Buffer(parent))):
            self._try(self._start_writer)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """What the run is found by; those that the tracker was made with stay."""
        self._append("tags", tags={k: str(v) for k, v in tags.items()} | self.tags)

    def log_data(
        self, name: str, digest: str, source: Mapping[str, Any], profile: Any
    ) -> None:
        """The data set: what it is called, its hash, how it is loaded, its counts."""
        self._append(
            "data", name=name, digest=digest, source=dict(source), profile=profile
        )

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Metrics of an epoch; what the run already has of a step is left out."""
        new = {k: float(v) for k, v in metrics.items() if (k, step) not in self._points}
        self._points |= {(key, step) for key in new}
        if new:
            self._append("metrics", metrics=new, step=step)
        if self._writer and self._writer.poll() is not None:  # it was killed
            self._try(self._start_writer)

    def log_files(self, paths: list[Path]) -> None:
        """Copies of files and folders in the run folder."""
        if self.buffer:
            run = self.buffer.run
            for path in paths:  # an event each: what is sent isn't sent again
                self._append("file", path=os.path.relpath(path, run))

    def log_model(
        self,
        model: Any,
        sample: Any,
        about: Mapping[str, Any],
        metrics: Iterable[str] = (),
    ) -> None:
        """The trained model, in stock Keras layers, an input, what to know of it.

        Those of the metrics told before that are of this model stand by it too.
        """

        def save() -> None:
            if self.buffer is None or self._has_model:
                return
            folder = self.buffer.folder / registry.FOLDER
            if folder.exists():
                shutil.rmtree(folder)  # of a run killed just after it
            with files.replacing(folder) as temporary:
                registry.save(model, temporary, sample, dict(about))
            self.buffer.append("model", register=self.register, metrics=sorted(metrics))
            self._has_model = True

        self._try(save, "its model is not tracked")

    def finish(self, status: str) -> None:
        """Closes the run as "FINISHED", "FAILED" or "KILLED"."""
        self._append("end", status=status)
        if self._alive:
            self._alive.release()
            self._alive = None
        if self._writer and self.buffer:
            self._try(lambda: self._wait())

    def _append(self, kind: str, **fields: Any) -> None:
        if self.buffer:
            buffer = self.buffer
            self._try(lambda: buffer.append(kind, **fields))

    def _try(self, action: Callable[[], None], loss: str = "") -> None:
        """Does it; after a failure that isn't a `loss` alone, no more is tried."""
        if self.failed:
            return
        try:
            action()
        except Exception as error:  # whatever a disk does, training goes on
            self.failed = not loss
            what = loss or "it is no longer tracked"
            self._say(
                f"run {self.buffer and self.buffer.run}: {what}: {one_line(error)}"
            )

    def _say(self, line: str) -> None:
        self.console.print(
            line, style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    def _parent_folder(self) -> Path | None:
        """The run folder of the parent; None if there is none, or only an id."""
        if isinstance(self.parent, MLflowTracker):
            return self.parent.buffer.run if self.parent.buffer else None
        if self.parent is not None and Buffer(self.parent).exists():
            return Path(self.parent)
        return None

    def _parent_id(self) -> str | None:
        """The parent's id in MLflow, if that is what was given."""
        return self.parent if isinstance(self.parent, str) else None

    def _is_followed(self, parent: Buffer) -> bool:
        """Whether the parent's process sends this run too."""
        return parent.is_alive() and any(
            self.buffer and child.run.resolve() == self.buffer.run.resolve()
            for child in parent.new_children()
        )

    def _start_writer(self) -> None:
        """Starts the process that sends, out of reach of the terminal's Ctrl-C."""
        if self.buffer is None:
            return
        command, environment = runtime.own_module("keras_resnet.tracking")
        log_file = self.buffer.folder / _LOG
        with open(log_file, "ab", opener=private) as log:
            self._writer = subprocess.Popen(
                [*command, str(self.buffer.run)],
                env=environment | {"MLFLOW_TRACKING_URI": self.store},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **runtime.detached(),
            )

    def _wait(self) -> None:
        """Gives the writer a bounded time to send the rest."""
        if self._writer is None or self.buffer is None:
            return
        family, store = self.buffer.family(), hide_passwords(self.store)
        began = time.monotonic()
        while any(buffer.unsent(self.store) for buffer in family):
            error = next(filter(None, (b.sent(self.store).error for b in family)), None)
            waited = time.monotonic() - began
            ended = self._writer.poll() is not None
            if ended or waited > SENDING or (error and waited > FAILING):
                self._writer.terminate()
                self._writer.wait()
                reason = error or f"see {self.buffer.folder / _LOG}"
                run = self.buffer.run
                self._say(
                    f"MLflow at {store} {_failed(error)} ({reason}); the run is kept "
                    f"in {run}; send it later: keras-resnet sync {run}"
                )
                return
            time.sleep(0.05)
        if not any(buffer.is_alive() for buffer in family):  # it stays with those
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._writer.wait(LEAVING)
        for refused in self.buffer.sent(self.store).refused:
            self._say(f"MLflow at {store} refused {refused}")


def _failed(error: str | None) -> str:
    """Whether a store isn't there, or is and takes nothing."""
    refused = error is not None and error.startswith("experiment ")
    return "can't take the run" if refused else "doesn't answer"


def _source_tags() -> dict[str, str]:
    """What MLflow shows of whom and what a run comes from."""
    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container without names
        user = "unknown"
    return {
        "mlflow.user": user,
        "mlflow.source.name": sys.argv[0] or "python",
        "mlflow.source.type": "LOCAL",
    }
