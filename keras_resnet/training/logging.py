"""What of a run is logged to a tracker, and when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from keras_resnet import files
from keras_resnet.cost import estimate_cost
from keras_resnet.plan import make_plan
from keras_resnet.recipe import Recipe
from keras_resnet.run import (
    AUGMENTED,
    BEST,
    CURVES,
    DATA,
    ENVIRONMENT,
    EXPORT,
    HISTORY,
    PAGE,
    RECIPE,
    Run,
)
from keras_resnet.surgery import to_stock
from keras_resnet.tasks import TASKS
from keras_resnet.tracking import Tracker, closing
from keras_resnet.training import report
from keras_resnet.training.averaging import steps_done
from keras_resnet.version import __version__

# Of a run folder: what is there at the start, and at the end.
_SETTINGS = (RECIPE, DATA, ENVIRONMENT)
_RESULTS = (
    HISTORY,
    CURVES,
    AUGMENTED,
    PAGE,
    *report.FILES,
    *report.OTHERS,
    BEST,
    EXPORT,
)


@contextmanager
def tracked(
    tracker: Tracker | None, folder: Path, recipe: Recipe, facts: dict[str, Any]
) -> Iterator[None]:
    """Opens a tracked run and closes it as what it was.

    Args:
        tracker: may be none.
        folder: the run folder, with recipe, data and environment in it.
        recipe: of the run.
        facts: of data and environment, as in the folder.
    """
    if tracker is None:
        yield
        return
    tracker.start(folder.name, _parameters(recipe, facts), folder)
    tracker.set_tags(_tags(recipe, facts))
    tracker.log_data(
        facts["source"],
        facts["fingerprint"],
        {key: facts[key] for key in ("source", "arguments", "seed")},
        {key: facts[key] for key in _PROFILE},
    )
    spec = folder / "tracking" / "spec.json"
    spec.parent.mkdir(exist_ok=True)
    files.write_text(spec, recipe.model.to_json())
    tracker.log_files([spec, *(folder / name for name in _SETTINGS)])
    with closing(tracker):
        yield


_PROFILE = (
    "counts",
    "classes",
    "class_names",
    "image_shape",
    "pixel_stats",
    "fingerprint",
    "duplicates",
)


def log_result(
    tracker: Tracker,
    folder: Path,
    recipe: Recipe,
    metrics: dict[str, float],
    model: keras.Model,
    samples: Any,
) -> None:
    """Logs what came of a run.

    Args:
        tracker: of the run.
        folder: the run folder.
        recipe: of the run.
        metrics: of the test images.
        model: the best one.
        samples: images (batch, height, width, channels) in 0 to 255.
    """
    tracker.log_metrics(metrics, recipe.epochs)
    left = [folder / name for name in _RESULTS]
    tracker.log_files([path for path in left if path.exists()])
    facts = Run(folder).data
    about = {
        "network": recipe.model.name,
        "recipe": recipe.name,
        "input": "raw pixels, 0 to 255",
        "input_shape": facts["image_shape"],
        "task": recipe.task,
        "output": TASKS[recipe.task].outputs,
        "class_names": facts["class_names"],
    }
    tracker.log_model(to_stock(model), samples.astype("float32"), about, metrics)


class LogEpochs(keras.callbacks.Callback):
    """Logs each epoch's metrics, seconds and images a second.

    Args:
        tracker: of the run.
        recipe: of the run.
        folder: the run that may be resumed, with the history of its epochs before.
    """

    def __init__(
        self, tracker: Tracker, recipe: Recipe, folder: Run | Path | str | None
    ) -> None:
        super().__init__()
        self.tracker = tracker
        self.recipe = recipe
        self.run = Run(folder) if isinstance(folder, Path | str) else folder
        self.epoch, self.started = 0, 0.0
        self.before = 0  # steps of the epoch that were done before the run was resumed

    def on_train_begin(self, logs: Any = None) -> None:
        """Logs what a kill kept from being logged."""
        for row in self.run.history if self.run else ():
            metrics = {name: value for name, value in row.items() if name != "epoch"}
            self.tracker.log_metrics(metrics, row["epoch"])

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the clock."""
        self.epoch, self.started = epoch + 1, time.perf_counter()
        self.before = (logs or {}).get("steps_done", 0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Logs the rate after the last step: a kill after it begins the next epoch."""
        now, done = time.perf_counter(), steps_done(batch, self.params)
        if done <= self.before:
            self.started = now  # only passed over
        elif done == self.params["steps"]:
            images = (done - self.before) * self.recipe.batch_size
            rate = images / (now - self.started)
            self.tracker.log_metrics({"images_per_second": rate}, self.epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Logs the epoch's."""
        metrics = {name: float(value) for name, value in (logs or {}).items()}
        # Of a run in a folder they are the whole epoch's, as in its history.
        metrics.setdefault("seconds", time.perf_counter() - self.started)
        self.tracker.log_metrics(metrics, epoch + 1)


def _parameters(recipe: Recipe, facts: dict[str, Any]) -> dict[str, Any]:
    """What a table of runs is sorted by."""
    spec = recipe.model
    cost = estimate_cost(spec)
    fields = recipe.to_dict() | {"model": spec.name}
    augment = fields.pop("augment")
    chosen = ("block", "depths", "widths", "k", "cardinality", "order", "shortcut")
    environment = ("seed", "onednn", "precision", "replicas")
    data = ("source", "fingerprint", "weights")
    return {
        **fields,
        **{f"augment.{name}": value for name, value in (augment or {}).items()},
        **{f"spec.{name}": getattr(spec, name) for name in chosen},
        "params": cost.params,
        "macs": cost.macs,
        **{name: facts[name] for name in (*environment, *data)},
    }


def _tags(recipe: Recipe, facts: dict[str, Any]) -> dict[str, str]:
    """What a run is found by, and its note."""
    spec = recipe.model
    note = (
        f"**{spec.name}** by the recipe **{recipe.name}** on **{facts['source']}**.\n\n"
        f"The model takes float32 images of shape {facts['image_shape']} as raw pixels "
        f"from 0 to 255. It learns {TASKS[recipe.task].target} "
        f"({', '.join(facts['class_names'])}) and gives {TASKS[recipe.task].outputs}; "
        "the SavedModel in `export/` gives these. It is of stock Keras layers and "
        "loads without keras_resnet."
    )
    return {
        "keras_resnet.version": __version__,
        "recipe": recipe.name,
        "network": spec.name,
        "depth": str(make_plan(spec).depth),
        "k": str(spec.k),
        "cardinality": str(spec.cardinality),
        "data": facts["source"],
        "data.fingerprint": facts["fingerprint"],
        "mlflow.source.git.commit": facts["commit"] or "unknown",
        "mlflow.note.content": note,
    }
