"""A run as it is kept: history, best model, and checkpoints to resume from."""

from __future__ import annotations

import math
import time
import warnings
from contextlib import nullcontext, suppress
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.data import Splits
from keras_resnet.errors import RunFolderError, UserError
from keras_resnet.run import BEST, DATA, ENVIRONMENT, HISTORY, Run, RunWarning
from keras_resnet.tasks import monitored
from keras_resnet.training import checkpoints, snapshot, stopping
from keras_resnet.training.averaging import Averages, steps_done
from keras_resnet.training.checkpoints import Checkpoint
from keras_resnet.training.devices.strategy import is_multiworker

MINUTES = 10.0  # between two checkpoints


class TrainingError(UserError):
    """A training that can't go on."""


class Order(keras.callbacks.Callback):
    """Makes the order of the training images that of the epoch's number."""

    def __init__(self, data: Splits) -> None:
        super().__init__()
        self.data = data

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Sets the data's epoch."""
        self.data.start(epoch)


class RunState(keras.callbacks.Callback):
    """Keeps history, best model and checkpoints in a run folder.

    Continues where the folder's last checkpoint was written, and ends as if it had
    not stopped. Files are written by renaming, so a kill at any moment leaves whole
    ones.

    Args:
        run: the run, opened.
        averages: the averaged weights, if the recipe has them: they belong to the
            state, and the best model is made of them.
        data: what `fit` is given `train` of. Without it, or on several workers,
            checkpoints are written at epochs' ends alone.
        minutes: between two checkpoints within an epoch; 0 has one after each step.
    """

    def __init__(
        self,
        run: Run,
        averages: Averages | None = None,
        data: Splits | None = None,
        minutes: float = MINUTES,
    ) -> None:
        super().__init__()
        self.folder = run.folder
        self.task = run.recipe.task
        self.averages = averages
        self.data = data
        self.minutes = minutes
        self.history: list[dict[str, float]] = []
        self.begun: Checkpoint | None = None  # within an epoch
        self.epoch = 0
        self.started = self.rate = self.written = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        """Resumes from the last checkpoint, if there is one."""
        self.written = time.monotonic()
        with suppress(OSError):  # the first write says why
            self.folder.mkdir(parents=True, exist_ok=True)
        found = checkpoints.read_last(self.folder)
        start_at(self.model, None)  # another `fit` may have begun late
        if not found:
            self.history = []
            return
        if found.step and not self.data:
            raise RunFolderError(
                f"run: {self.folder} stopped within epoch {found.epoch + 1}; give "
                "recipe.callbacks(folder, data) the splits to resume it"
            )
        self.begun = found if found.step else None
        self.model.optimizer.build(self.model.trainable_variables)
        try:
            snapshot.put(self._variables(), found.arrays)
        except ValueError as error:
            raise RunFolderError(
                f"run: {self.folder} holds the state of another model: {error}"
            ) from None
        if self.averages:
            self.averages.resume()
            if not found.step:
                self.averages.show()
        start_at(self.model, found.epoch)
        self.history = found.history
        # An epoch may have been written down and not checkpointed.
        self._write_history()
        if self.history and not found.step and self._is_best():
            self._save_best()  # in case the kill came just before it was

    def on_train_end(self, logs: Any = None) -> None:
        """Lets the model's next `fit` begin with its first epoch."""
        start_at(self.model, None)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock, or enters an epoch in its middle."""
        self.epoch = epoch
        self.started = time.perf_counter()
        rate = self.model.optimizer.learning_rate
        self.rate = float(keras.ops.convert_to_numpy(rate))
        begun, self.begun = self.begun, None
        if not (begun and self.data):
            return
        self.started -= begun.seconds
        self.rate = begun.rate
        self.data.start(epoch, begun.step)
        if logs is not None:
            logs["steps_done"] = begun.step  # for the callbacks after this one
        if self.averages:
            self.averages.seen = begun.step
        if len(self.model.metrics_variables) != len(begun.metrics):
            # Keras makes them in the first step, which would be too late.
            self.model._symbolic_build(data_batch=next(iter(self.data.train)))
        snapshot.put(self.model.metrics_variables, begun.metrics)
        self._leave_out(begun.step)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the loss, and writes a checkpoint if it is time to, or to stop."""
        step = steps_done(batch, self.params)
        loss = (logs or {}).get("loss", 0.0)
        if not math.isfinite(loss):
            raise self._diverged(f"loss is {loss}", step)
        stop = stopping.requested()
        due = time.monotonic() - self.written >= 60 * self.minutes
        if (due or stop) and self._within_epochs():
            self._write(step)
        if stop:
            raise stopping.Stopped(stop)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Saves history, a checkpoint, and the model if it is the best."""
        row = {"epoch": epoch + 1, "seconds": time.perf_counter() - self.started}
        if logs is not None:  # for the callbacks after this one too
            logs |= {"learning_rate": self.rate, "seconds": row["seconds"]}
        row |= {name: float(value) for name, value in (logs or {}).items()}
        odd = [name for name, value in row.items() if not math.isfinite(value)]
        if odd:
            raise self._diverged(f"{odd[0]} is {row[odd[0]]}")
        self.history.append(row)
        self._write_history()
        self.epoch = epoch + 1
        self._write(0)
        if self._is_best():
            self._save_best()
        if stop := stopping.requested():
            raise stopping.Stopped(stop)

    def _variables(self) -> list[Any]:
        averages = self.averages.averages if self.averages else []
        return [*snapshot.weights_of(self.model), *averages]

    def _within_epochs(self) -> bool:
        """Whether the run can go on within an epoch.

        Of several workers, each has own statistics, and the chief alone writes.
        """
        strategy = self.model.distribute_strategy
        return self.data is not None and not is_multiworker(strategy)

    def _write(self, step: int) -> None:
        """Writes a checkpoint after `epoch` epochs and so many steps of the next."""
        self._check_there()
        with self.averages.latest() if self.averages else nullcontext():
            arrays = snapshot.take(self._variables())
        if not snapshot.are_finite(arrays):
            raise self._diverged("weights are not all finite", step)
        found = Checkpoint(self.epoch, step, 0.0, 0.0, self.history, arrays)
        if step:
            found = found._replace(
                seconds=time.perf_counter() - self.started,
                rate=self.rate,
                metrics=snapshot.take(self.model.metrics_variables),
            )
        checkpoints.write(self.folder, found)
        self.written = time.monotonic()

    def _leave_out(self, steps: int) -> None:
        """Lets Keras pass over an epoch's first steps, which were done before."""
        model = self.model
        train = model.train_function
        left = math.ceil(steps / model.steps_per_execution)

        def pass_over(iterator: Any) -> Any:
            nonlocal left
            for _ in range(model.steps_per_execution):
                next(iterator, None)
            left -= 1
            if not left:
                model.train_function = train
            return model.get_metrics_result()

        model.train_function = pass_over

    def _diverged(self, why: str, step: int = 0) -> TrainingError:
        where = f"epoch {self.epoch + 1}" + (f", step {step}" if step else "")
        return TrainingError(
            f"training diverged in {where}: its {why}; try a lower learning_rate or "
            f"more warmup_epochs, in a new folder. {self.folder} keeps what was before"
        )

    def _is_best(self) -> bool:
        """Whether the last epoch is as good as any."""
        worth = [monitored(self.task, row) for row in self.history]
        return worth[-1] == max(worth)

    def _check_there(self) -> None:
        """A folder that was removed isn't made again half."""
        if not self.folder.is_dir():
            raise RunFolderError(
                f"folder: {self.folder} was removed while it was trained in"
            )

    def _write_history(self) -> None:
        self._check_there()
        files.write_lines(self.folder / HISTORY, self.history)

    def _save_best(self) -> None:
        with files.replacing(self.folder / BEST) as temporary:
            self.model.save(temporary)
            files.seal(temporary)


def start_at(model: Any, epoch: int | None) -> None:
    """Lets a `fit` that is beginning start at an epoch; None: at its `initial_epoch`.

    Keras' own BackupAndRestore does it so, and Keras keeps it for the next `fit`.
    """
    model._initial_epoch = epoch


def first_epoch(model: Any) -> int:
    """The epoch that `start_at` set, or 0."""
    return model._initial_epoch or 0


# What makes an unfinished run another one, if it changes: test images would come into
# the training, or no run would have ended so.
_SAME = {
    DATA: ("seed", "image_shape", "steps", "fingerprint", "weights", "crops_from"),
    ENVIRONMENT: ("replicas", "sync_batch_norm", "precision", "onednn"),
}
# What changes last digits only.
_ALIKE = ("processor", "instruction_sets", "threads", "versions")


def check_same(run: Run, name: str, facts: dict[str, Any]) -> None:
    """Refuses to resume another run; warns where it can't be exact.

    Args:
        run: the run.
        name: `DATA` or `ENVIRONMENT`.
        facts: what that file would hold now.

    Raises:
        RunFolderError: what a run's end depends on has changed.
    """
    folder = run.folder
    if not (folder / name).exists():
        return
    before = files.read_json(folder / name)
    for key in _SAME[name]:
        if _identity(before.get(key)) != _identity(facts[key]):
            raise RunFolderError(
                f"folder: {folder} holds an unfinished run with {key} "
                f"{before.get(key)!r}, not {facts[key]!r}; name a new folder"
            )
    other = [key for key in _ALIKE if key in before and before[key] != facts.get(key)]
    if other:
        warnings.warn(
            f"folder: {folder} is resumed with other {', '.join(other)} than it began "
            "with: the last digits may differ",
            RunWarning,
            stacklevel=3,
        )


def _identity(value: Any) -> Any:
    """A file's hash instead of its path, which may be another on another machine."""
    return value.rpartition(" sha256:")[2] if isinstance(value, str) else value
