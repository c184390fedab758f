"""What a search logs to MLflow: its settings, the best trial, the report."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_resnet import files
from keras_resnet.run import BEST as MODEL
from keras_resnet.tasks import TASKS
from keras_resnet.tracking import MLflowTracker, closing
from tuning.trials import BEST, REPORT, SEARCH, Trial

if TYPE_CHECKING:
    import numpy as np

    from tuning.hypermodel import ResidualHyperModel

_LOGGED = (
    "budget", "mode", "objective", "within", "cost", "against", "format", "quantize",
    "tuner", "data",
)  # fmt: skip


@contextlib.contextmanager
def tracked(
    tracker: MLflowTracker | None, folder: Path, hypermodel: ResidualHyperModel
) -> Iterator[None]:
    """The search's own run in MLflow, closed as what the search ends in."""
    if tracker is None:
        yield
        return
    settings = files.read_json(folder / SEARCH)
    params = {key: settings[key] for key in _LOGGED if settings.get(key) is not None}
    space = hypermodel.space
    params |= {"space": space.name, "seed": hypermodel.seed}
    params |= {f"space.{field}": getattr(space, field) for field in space.searched}
    tracker.start(folder.name, params, folder)
    tracker.set_tags({"search": space.name, "recipe": hypermodel.recipe.name})
    tracker.log_files([folder / SEARCH])
    with closing(tracker):
        yield


def log_best(
    tracker: MLflowTracker,
    best: Trial,
    folder: Path,
    images: np.ndarray,
    class_names: Sequence[str],
    *,
    model: bool = True,
) -> None:
    """Logs the best trial's metrics, the report and, once, the model.

    Args:
        tracker: of the search.
        best: the trial.
        folder: of the search.
        images: some that the model takes, raw pixels (n, height, width, channels).
        class_names: a name for each class.
        model: whether the model is logged: where a final follows, that names it.
    """
    metrics = {f"best_{k}": v for k, v in best.metrics.items()}
    tracker.log_metrics(metrics, 0)
    tracker.set_tags({"best_trial": best.id})
    tracker.log_files([folder / BEST, folder / REPORT])
    if not model:
        return

    from keras_resnet.surgery import to_stock

    recipe = best.recipe
    about: dict[str, Any] = {
        "network": recipe.model.name,
        "recipe": recipe.name,
        "input": "raw pixels, 0 to 255",
        "output": TASKS[recipe.task].outputs,
        "trial": best.id,
        "class_names": list(class_names),
    }
    trained = files.load_keras(best.run / MODEL)
    tracker.log_model(to_stock(trained), images[:4].astype("float32"), about, metrics)
