"""Test images that weights to start from have been trained on.

Weights of a run that is fine-tuned on the same images bring what they learnt: a test by
another split would find images again. So the run's split is kept, and what is found
all the same is counted.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from keras_resnet.data import DataWarning, Splits
from keras_resnet.data.dataset import absolute
from keras_resnet.data.splits import count_common
from keras_resnet.files import replacing
from keras_resnet.run import TRAINED_ON, Run

LEAKED = "test in what the weights were trained on"  # as `Splits.duplicates` has it


def split_of(run: Run, source: Any, data_dir: Any) -> int | None:
    """The seed of a run's split, if it was of the same source; else None."""
    arguments = run.data["arguments"]
    if arguments is None or not isinstance(source, str):
        return None
    if arguments["source"] != absolute(source):
        return None
    if data_dir and arguments["data_dir"] != str(data_dir):
        return None
    return int(arguments.get("split_seed", arguments["seed"]))


def check_test(data: Splits, run: Run) -> Splits:
    """Data with what a run was trained on among its `duplicates`; warns of it.

    Args:
        data: to train on and test by.
        run: that the weights to start from are of.
    """
    seen, test = run.trained_on(), data.digests["test"]
    if seen is None:
        warnings.warn(
            f"weights: on which images {run.folder} was trained isn't known; test "
            "images may be among them",
            DataWarning,
            stacklevel=2,
        )
        return data
    count = count_common(test, seen)
    if not count:
        return data
    warnings.warn(
        f"weights: {count} of the {len(test)} test images are among those that "
        f"{run.folder} was trained on: what is measured by them is too good",
        DataWarning,
        stacklevel=2,
    )
    return data._replace(duplicates={**data.duplicates, LEAKED: count})


def write_trained_on(data: Splits, run: Run, start: Run | None) -> None:
    """Keeps which images a run is trained on, for those that will start from it.

    Args:
        data: that it is trained on.
        run: the run. Nothing is written where it isn't known, as of streams.
        start: the run whose weights it starts from.
    """
    own, before = data.digests["train"], start.trained_on() if start else None
    if not len(own) or (start and before is None):
        return
    found = own if before is None else np.concatenate([own, before])
    rows = np.unique(found.view(np.uint64).reshape(-1, 2), axis=0)
    path = run.folder / TRAINED_ON
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.save(file, rows)
