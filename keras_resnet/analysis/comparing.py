"""Networks side by side: published ones, what was measured here, and own runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from keras_resnet.analysis.published import NetworkResult
from keras_resnet.analysis.timings import Timing
from keras_resnet.errors import UserError, one_line
from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.store import Store
from keras_resnet.units import Amount

MEASURED = ("memory", "time")  # of a budget's quantities; the others are computed


class Comparison(NamedTuple):
    """What the charts are drawn from."""

    results: Sequence[NetworkResult]
    timings: Sequence[Timing]


def own_runs(experiment: str) -> list[NetworkResult]:
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
    results = [
        NetworkResult(
            network=run.data.params["model"],
            title=run.info.run_name,
            test_set=f"{run.data.params['source']} test",
            crop="as trained",
            top1_error=100 * (1 - run.data.metrics["test_accuracy"]),
            top5_error=None,
            params=int(run.data.params["params"]),
            macs=int(run.data.params["macs"]),
            source=f"MLflow run {run.info.run_id}",
            own=True,
        )
        for run in runs
        if "test_accuracy" in run.data.metrics
        and {"model", "params", "macs", "source"} <= run.data.params.keys()
    ]
    if not results:
        raise UserError(
            f"runs: experiment {experiment!r} has no finished training run of ours"
        )
    return results


def best_under(
    budget: Amount, results: Iterable[NetworkResult], timings: Sequence[Timing]
) -> NetworkResult | None:
    """The network of the least top-1 error within a budget, or None.

    Memory and the time of an image are those measured at batch 1.

    Raises:
        UserError: none of the networks was measured, and the budget needs it.
    """
    results = [result for result in results if result.top1_error is not None]
    at_one = {timing.network: timing for timing in timings if timing.batch == 1}
    measured = budget.quantity in MEASURED
    if measured and not any(result.network in at_one for result in results):
        raise UserError(
            f"budget: no network's {budget.quantity} was measured at batch 1; run "
            "compare with --measure first"
        )

    def cost(result: NetworkResult) -> float:
        if not measured:
            return float(getattr(result, budget.quantity))
        timing = at_one.get(result.network)
        if timing is None:
            return math.inf
        return (
            timing.peak_bytes if budget.quantity == "memory" else timing.seconds_median
        )

    within = [result for result in results if cost(result) <= budget.value]
    return max(within, key=lambda result: result.accuracy, default=None)
