"""Networks side by side: published ones, what was measured here, and own runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_resnet.analysis.published import PublishedResult, lecture
from keras_resnet.analysis.timings import Timing
from keras_resnet.errors import UserError, one_line
from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.store import Store
from keras_resnet.units import Amount

MEASURED = ("memory", "time")  # of a budget's quantities; the others are computed


class Entry(NamedTuple):
    """A network of a comparison.

    Attributes:
        network: a preset, a reference network, or the network of a run.
        title: its name in print.
        accuracy: top-1, per cent.
        params: trainable parameters.
        macs: multiply-adds of an image.
        test_set: what the accuracy was measured on.
        crop: how.
        source: of the accuracy.
        own: whether it is a run of the user's.
    """

    network: str
    title: str
    accuracy: float
    params: int
    macs: int
    test_set: str
    crop: str
    source: str
    own: bool = False


class Comparison(NamedTuple):
    """What the charts are drawn from."""

    entries: list[Entry]
    timings: list[Timing]


def entries_of(rows: Iterable[PublishedResult]) -> list[Entry]:
    """Published results that have a top-1 error."""
    return [
        Entry(
            row.network,
            row.title,
            round(100 - row.top1_error, 3),
            row.params,
            row.macs,
            row.test_set,
            row.crop,
            row.source,
        )
        for row in rows
        if row.top1_error is not None
    ]


def lecture_entries() -> list[Entry]:
    """The comparison of the lecture."""
    return entries_of(lecture())


def own_runs(experiment: str) -> list[Entry]:
    """The last 1000 finished runs of an experiment in the store that training logs to.

    Raises:
        UserError: no store, no such experiment, or no finished run in it.
    """
    address = store_address()
    database = address.removeprefix("sqlite:///")
    if database != address and not Path(database).exists():
        # MLflow would make one.
        raise UserError(
            f"runs: there is no {database}; train here, or set MLFLOW_TRACKING_URI"
        )
    import mlflow

    try:
        client = Store(address).client
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = sorted(known.name for known in client.search_experiments())
            raise UserError(
                f"runs: no experiment is named {experiment!r}; there are "
                f"{', '.join(names)}"
            )
        runs = client.search_runs(
            [found.experiment_id], "attributes.status = 'FINISHED'", max_results=1000
        )
    except mlflow.exceptions.MlflowException as error:
        raise UserError(
            f"runs: MLflow at {address} can't be read: {one_line(error)}"
        ) from None
    entries = [
        Entry(
            network=run.data.params["model"],
            title=run.info.run_name,
            accuracy=100 * run.data.metrics["test_accuracy"],
            params=int(run.data.params["params"]),
            macs=int(run.data.params["macs"]),
            test_set=f"{run.data.params['source']} test",
            crop="as trained",
            source=f"MLflow run {run.info.run_id}",
            own=True,
        )
        for run in runs
        if "test_accuracy" in run.data.metrics
        and {"model", "params", "macs", "source"} <= run.data.params.keys()
    ]
    if not entries:
        raise UserError(
            f"runs: experiment {experiment!r} has no finished training run of ours"
        )
    return entries


def best_under(
    budget: Amount, entries: Iterable[Entry], timings: Sequence[Timing]
) -> Entry | None:
    """The most accurate network within a budget, or None.

    Memory and the time of an image are those measured at batch 1.

    Raises:
        UserError: none of the networks was measured, and the budget needs it.
    """
    entries = list(entries)
    at_one = {timing.network: timing for timing in timings if timing.batch == 1}
    measured = budget.quantity in MEASURED
    if measured and not any(entry.network in at_one for entry in entries):
        raise UserError(
            f"budget: no network's {budget.quantity} was measured at batch 1; run "
            "compare with --measure first"
        )

    def cost(entry: Entry) -> float:
        if not measured:
            return float(getattr(entry, budget.quantity))
        timing = at_one.get(entry.network)
        if timing is None:
            return float("inf")
        return (
            timing.peak_bytes if budget.quantity == "memory" else timing.seconds_median
        )

    within = [entry for entry in entries if cost(entry) <= budget.value]
    return max(within, key=lambda entry: entry.accuracy, default=None)
