"""Searches, run for real on a few batches of digits."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean
from types import SimpleNamespace

import keras_tuner
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from rich.console import Console

import keras_resnet
import tuning
from keras_resnet import cifar_resnet, data, estimate_cost, files, training
from keras_resnet.cli import main
from keras_resnet.errors import UserError
from keras_resnet.recipe import Recipe
from keras_resnet.run import HISTORY, BusyError, Run
from tuning import search_plots
from tuning.decode import declare
from tuning.expected import expected_accuracy
from tuning.feasibility import check_budget
from tuning.importance import Importance, effects, importance, sentences
from tuning.latency import Export, measure_latency
from tuning.noise import Noise, read_noise, write_correct
from tuning.objective import Objective
from tuning.oracles import from_kerastuner, make_oracle
from tuning.retrain import Finalist, compare, retrain
from tuning.search_report import write_report
from tuning.selection import best_of, finalists, ranked
from tuning.trials import (
    DEFAULT,
    Trial,
    completed,
    pareto_front,
    read_trials,
)
from tuning.tuner import counting_deaths, seconds_after


@pytest.fixture
def recipe(tiny_spec) -> Recipe:
    return training.get_recipe("digits").over(2).replace(model=tiny_spec)


@pytest.fixture
def splits() -> data.Splits:
    return data.load("digits", batch_size=32).take(3)


@pytest.mark.slow
def test_any_tuner_takes_the_hypermodel_and_builds_once_a_trial(
    recipe, splits, workplace, monkeypatch
):
    from tuning import hypermodel

    built = []
    build = hypermodel.build
    monkeypatch.setattr(
        hypermodel, "build", lambda *a, **k: built.append(1) or build(*a, **k)
    )
    space = tuning.Space(block=("basic", "bottleneck"), cardinality=(1, 2))
    model = tuning.ResidualHyperModel(space, recipe, splits)
    tuner = keras_tuner.RandomSearch(
        model, objective="val_accuracy", max_trials=1, directory="found", seed=1
    )
    assert not built
    assert {entry.name for entry in tuner.oracle.get_space().space} == {
        "block",
        "cardinality",
    }
    tuner.search(verbose=0)
    assert len(built) == 1
    best = tuner.get_best_hyperparameters()[0]
    assert model.candidate(best).model.block == best["block"]
    assert 0 < tuner.oracle.get_best_trials()[0].score <= 1


def test_what_the_hypermodel_has_is_refused_from_the_tuner(recipe, splits, workplace):
    model = tuning.ResidualHyperModel(tuning.Space(units=(1, 2)), recipe, splits)

    def tuner(name, **options):
        return keras_tuner.RandomSearch(
            model, "val_accuracy", max_trials=2, directory=name, **options
        )

    images = np.zeros((8, 8, 8, 1), "uint8")
    with pytest.raises(UserError, match=r"x, y, batch_size: the hypermodel has data"):
        tuner("one").search(images, np.zeros(8), batch_size=8, verbose=0)
    with pytest.raises(UserError, match=r"validation_split: .* recipe.replace"):
        tuner("two").search(validation_split=0.1, verbose=0)
    with pytest.raises(UserError, match="optimizer, loss, metrics: the hypermodel"):
        tuner("three", optimizer="adam", loss="mse").search(verbose=0)


def test_what_is_declared_beforehand_is_kept(recipe, splits):
    space = tuning.Space(units=(1, 2), k=(1.0, 2.0))
    model = tuning.ResidualHyperModel(space, recipe, splits)
    hp = keras_tuner.HyperParameters()
    hp.Choice("units", [2])
    model.build(hp)
    assert hp.values == {"units": 2, "k": 1.0}


def test_the_time_of_a_failed_trial_is_that_of_all_its_workers(
    recipe, splits, workplace
):
    model = tuning.ResidualHyperModel(tuning.Space(units=(1, 2)), recipe, splits)
    oracle = make_oracle("grid", model, objective=Objective(), trials=2)
    oracle._set_project_dir("search", "tuner")
    oracle.update_space(keras_tuner.HyperParameters())
    declare(oracle.hyperparameters, model.space)
    trial = oracle.create_trial("one")
    oracle.started[trial.trial_id] -= 100
    assert oracle.reassign({"one"}, 1e9) == []
    assert oracle.reassign(set(), -1) == ["one"]
    again = oracle.create_trial("two")
    assert again.trial_id == trial.trial_id
    oracle.started[trial.trial_id] -= 10
    again.status = "FAILED"
    oracle.end_trial(again)
    seconds = oracle.trials[trial.trial_id].metrics.get_best_value("seconds")
    assert seconds == pytest.approx(110, abs=5)


def test_hyperband_trains_some_to_their_end_in_a_small_space(recipe, splits, workplace):
    """Where brackets have more places than there are networks, and trials fail."""
    space = tuning.Space(units=(1, 2), k=(0.5, 1.0))
    model = tuning.ResidualHyperModel(space, recipe.over(9), splits)
    oracle = make_oracle("hyperband", model, objective=Objective(), trials=1)
    oracle._set_project_dir("search", "tuner")
    declare(oracle.hyperparameters, space)
    epochs = []
    while (trial := oracle.create_trial("one")).status == "RUNNING":
        values = trial.hyperparameters.values
        epochs.append((values["tuner/initial_epoch"], values["tuner/epochs"]))
        accuracy = 0.1 * values["units"] + values["k"] / 2
        oracle.update_trial(trial.trial_id, {"val_accuracy": accuracy, "macs": 1})
        trial.status = "FAILED" if len(epochs) == 3 else "COMPLETED"
        oracle.end_trial(trial)
    assert trial.status == "STOPPED"
    assert epochs == [*[(0, 1)] * 4, (1, 3), (3, 9)]
    ended = [from_kerastuner(trial) for trial in oracle.trials.values()]
    (best,) = ranked(ended, Objective())
    assert best.values["tuner/epochs"] == 9


@pytest.mark.slow
def test_a_search_survives_a_failure_is_told_once_and_can_be_rerun(recipe, workplace):
    """A rate of 100 with this decay multiplies the weights by -99 in each step."""
    import mlflow

    from keras_resnet.tracking import MLflowTracker

    space = tuning.Space(learning_rate=(100.0, 0.1), l2=(1.0,))
    splits = data.load("digits", batch_size=32, augment=recipe.augment)
    folder = workplace / "search"

    def run():
        return tuning.search(
            space, recipe, data=splits, tuner="grid", folder=folder, trials=2,
            tracker=MLflowTracker("tried", register="found@best"),
        )  # fmt: skip

    result = run()
    failed, done = result.trials
    assert (failed.status, done.status) == ("FAILED", "COMPLETED")
    assert "diverged" in failed.reason
    assert failed.metrics["seconds"] > 0  # of the time for all
    assert "\n" not in failed.reason
    assert result.best == done

    def children():
        client = mlflow.MlflowClient(f"sqlite:///{workplace}/mlflow.db")
        experiment = client.get_experiment_by_name("tried").experiment_id
        return client, client.search_runs([experiment])

    again = run()
    assert again.trials == result.trials
    client, runs = children()
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED", "FINISHED"]
    parents = {run.data.tags.get("mlflow.parentRunId") for run in runs}
    assert len(parents - {None}) == 1
    (lost,) = [run for run in runs if run.info.status == "FAILED"]
    assert "diverged" in lost.data.tags["reason"]
    assert int(client.get_model_version_by_alias("found", "best").version) == 1

    pictures = {
        "effects.png",
        "importance.png",
        "parallel.png",
        "pareto.png",
        "shapes.png",
    }
    written = {"README.md", "trials.csv", *pictures}
    assert {path.name for path in (folder / "report").iterdir()} == written
    (parent,) = parents - {None}
    logged = {Path(file.path).name for file in client.list_artifacts(parent, "report")}
    assert logged == written

    best = Recipe.from_json((folder / "best.json").read_text())
    rerun = training.train(best, data="digits", folder=workplace / "rerun")
    trial = files.read_lines(done.run / HISTORY)
    for own, theirs in zip(rerun.history, trial, strict=True):
        assert own["val_loss"] == pytest.approx(theirs["val_loss"], abs=1e-6)

    with pytest.raises(tuning.SearchError, match="another space"):
        tuning.search("depth", recipe, data=splits, tuner="grid", folder=folder)


_SEARCH = """
import sys, tuning
from keras_resnet import data, training
from keras_resnet.spec import ResNetSpec
recipe = training.get_recipe("digits").over(3)
recipe = recipe.replace(model=ResNetSpec.from_json(open("spec.json").read()))
splits = data.load("digits", batch_size=32)
result = tuning.search(tuning.Space(units=(1, 2)), recipe, data=splits,
                       tuner=sys.argv[1], folder="search", trials=2)
"""


@pytest.mark.slow
def test_a_killed_search_goes_on_in_the_middle_of_its_trial(tiny_spec, workplace):
    Path("spec.json").write_text(tiny_spec.to_json())
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _SEARCH, "grid"]
    run = Path("search/tuner/trial_0/run")
    history = run / HISTORY
    with subprocess.Popen(command, env=environment) as process:
        while not [*run.glob("checkpoint/000001-*.npz")]:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    first = files.read_lines(history)[0]
    subprocess.run(command, env=environment, check=True, timeout=600)
    trials = read_trials(Path("search"))
    assert [trial.status for trial in trials] == ["COMPLETED", "COMPLETED"]
    after = files.read_lines(history)
    assert after[0] == first  # with its seconds: the epoch was not run again
    assert [epoch["epoch"] for epoch in after] == [1, 2, 3]


@pytest.mark.slow
def test_hyperband_carries_trainings_from_rung_to_rung(recipe, splits, workplace):
    space = tuning.Space(units=(1, 2), l2=tuning.Range(1e-5, 1e-3, log=True))
    result = tuning.search(
        space, recipe.over(3), data=splits, tuner="hyperband", folder="search"
    )
    histories = {
        trial.id: files.read_lines(trial.run / HISTORY) for trial in result.trials
    }
    promoted = [trial for trial in result.trials if "tuner/trial_id" in trial.values]
    assert promoted
    for trial in completed(result.trials):
        assert len(histories[trial.id]) == trial.values["tuner/epochs"]
    for trial in promoted:
        parent = histories[trial.values["tuner/trial_id"]]
        assert histories[trial.id][: len(parent)] == parent
        assert trial.values["tuner/initial_epoch"] == len(parent)


def test_the_time_of_a_rung_is_without_that_of_the_rung_before():
    history = [{"epoch": i, "seconds": 10.0 * i} for i in (1, 2, 3)]
    assert [seconds_after(epochs, history) for epochs in (0, 2)] == [60, 30]


@pytest.mark.slow
def test_a_bayesian_search_ends_with_a_winner_judged_on_test_images(recipe, workplace):
    import mlflow

    from keras_resnet.tracking import MLflowTracker

    recipe, tracker = recipe.over(1), MLflowTracker("judged")
    space = tuning.Space(l2=tuning.Range(1e-5, 1e-3, log=True))
    table = io.StringIO()
    found = tuning.search(
        space, recipe, tuner="bayesian", trials=4, folder="search", tracker=tracker,
        final=True,
        console=Console(file=table, force_terminal=True, width=120),
    )  # fmt: skip
    assert f"best {found.best.metrics['val_accuracy']:.2%}" in table.getvalue()
    assert len({trial.values["l2"] for trial in found.trials}) == 4  # 3 are random

    def judge(console=None):
        return retrain(
            found, recipe, "digits", seeds=(1,), final=2, tracker=tracker,
            console=console,
        )  # fmt: skip

    first = Run(f"search/retrained/1-epochs/trial-{found.best.id}-seed-1")
    first.folder.mkdir(parents=True)
    with first.lock(), pytest.raises(BusyError, match="trains the final of search; wa"):
        judge()
    said = io.StringIO()
    compared = judge(Console(file=said, width=200))
    # A line for each training, and none of what its data and device are.
    assert said.getvalue().count("default, seed 1: 8 layers deep, 1 epoch, in ") == 1
    assert said.getvalue().count(", seed 1: ") == 3
    assert "device " not in said.getvalue()
    assert judge() == compared
    assert compared.share == 1  # the same network
    one, other = sorted(compared.finalists, key=lambda f: mean(f.validation))
    assert compared.trial == other.trial
    best = Recipe.from_json(Path("search/best.json").read_text())
    assert best == Run(f"search/tuner/trial_{other.trial}/run").recipe
    assert "| finalist |" in Path("search/report/README.md").read_text()
    client = mlflow.MlflowClient(f"sqlite:///{workplace}/mlflow.db")
    experiment = client.get_experiment_by_name("judged").experiment_id
    runs = client.search_runs([experiment])
    assert {run.info.status for run in runs} == {"FINISHED"}
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert {run.info.run_name for run in runs} - {parent.info.run_name} == {
        *(f"trial-{trial.id}" for trial in found.trials),
        f"trial-{one.trial}-seed-1",
        f"trial-{other.trial}-seed-1",
        "default-seed-1",
    }
    assert parent.data.tags["verdict"] == compared.verdict
    page = Path("search/report/README.md").read_text()
    assert compared.verdict in page


@pytest.mark.slow
def test_a_trial_trains_under_a_strategy(tiny_spec, workplace):
    Path("spec.json").write_text(tiny_spec.to_json())
    code = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
import tuning
from keras_resnet import data, training
from keras_resnet.spec import ResNetSpec
recipe = training.get_recipe("digits").over(1)
recipe = recipe.replace(model=ResNetSpec.from_json(open("spec.json").read()))
splits = data.load("digits", batch_size=32).take(2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
result = tuning.search(tuning.Space(units=(1,)), recipe, data=splits, trials=1,
                       folder="search", strategy=strategy)
print(result.best.status, strategy.num_replicas_in_sync)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("COMPLETED 2"), done.stderr


def test_a_trial_in_which_processes_die_is_given_up(workplace):
    dead = []

    def die():
        dead.append(counting_deaths(workplace))
        dead[-1].__enter__()  # and nothing after it

    (workplace / "checkpoint").mkdir()
    die()
    die()
    (workplace / "checkpoint" / "000001-00000000.npz").touch()
    for _ in range(3):  # it came further, and they count anew
        die()
    with (
        pytest.raises(keras_tuner.errors.FailedTrialError, match="died 3 times"),
        counting_deaths(workplace),
    ):
        pass
    (workplace / "checkpoint" / "000002-00000000.npz").touch()
    with counting_deaths(workplace):
        pass
    assert not (workplace / "deaths.json").exists()


def test_a_budget_that_nothing_meets_says_what_the_cheapest_costs(
    recipe, splits, workplace
):
    space = tuning.Space(units=(1, 2), k=(1.0, 2.0))
    for mode in ("refuse", "repair"):
        with pytest.raises(tuning.BudgetError, match=r"the cheapest cost \d.*kMAC"):
            tuning.search(space, recipe, data=splits, budget="1kMAC", mode=mode)
    assert not list(workplace.iterdir())
    # It is found where few samples of it would be.
    wide = tuning.Space(depth=tuning.Range(8, 1000), k=tuning.Range(1, 10))
    with pytest.raises(tuning.BudgetError, match=r"the cheapest cost \d\S*kMAC"):
        tuning.search(wide, recipe, data=splits, budget="1kMAC")
    # Neither the least depth nor the ends of cardinality are the cheapest.
    groups = tuning.Space(
        block=("bottleneck",), depth=(11,), cardinality=tuple(range(1, 33))
    )
    costs = {
        c: estimate_cost(
            tuning.spec_from_hp(
                SimpleNamespace(values={"block": "bottleneck", "depth": 11,
                                        "cardinality": c}),
                groups, cifar_resnet(20, input_shape=splits.image_shape),
            )
        ).macs
        for c in range(1, 33)
    }  # fmt: skip
    assert min(costs, key=costs.__getitem__) not in (1, 32)
    base = recipe.replace(model=cifar_resnet(20))
    check_budget(
        tuning.ResidualHyperModel(
            groups, base, splits, budget=f"{min(costs.values())}MAC"
        ).candidates
    )
    with pytest.raises(tuning.BudgetError, match="the cheapest cost"):
        check_budget(
            tuning.ResidualHyperModel(
                groups, base, splits, budget=f"{min(costs.values()) - 1}MAC"
            ).candidates
        )
    least = recipe.model.replace(depths=(1,) * len(recipe.model.depths))
    macs = estimate_cost(least.replace(input_shape=splits.image_shape)).macs
    hypermodel = tuning.ResidualHyperModel(
        wide, recipe, splits, budget=f"{1.01 * macs}MAC", mode="refuse"
    )
    check_budget(hypermodel.candidates)
    # None can be cheaper than the default.
    wider = tuning.Space(units=(1, 2), k=(2.0, 3.0))
    sought = {"objective": "cheapest", "within": 5}
    with pytest.raises(tuning.BudgetError, match="and costs less than the default"):
        tuning.search(wider, recipe.replace(model=least), data=splits, **sought)
    # What is measured is refused trial by trial.
    with pytest.raises(tuning.SearchError, match=r"of 1 trial in .* none was.*latency"):
        tuning.search(
            space, recipe, data=splits, budget="0.0001ms", trials=1, folder="slow"
        )
    Path("other").mkdir()
    Path("other/file").touch()
    with pytest.raises(tuning.SearchError, match="is not a search"):
        tuning.search(space, recipe, data=splits, folder="other")
    with pytest.raises(tuning.SpaceError, match="iso"):
        tuning.search(space, recipe, data=splits, budget="80kMAC", mode="iso")
    with pytest.raises(tuning.SpaceError, match="one of each"):
        tuning.search(tuning.Space(batch_size=(8,)), recipe, data=splits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tuner", "hyperband", "--trials", "3"], "has its own number"),
        (["--no-track", "--register", "x"], "no MLflow"),
        (["--retrain-epochs", "3"], "without --retrain"),
        (["--final", "3"], "needs --retrain"),
        (["--space", "missing.json"], "can't read"),
        (["--objective", "cheapest"], "such as 0.5, not None"),
        (["--objective", "cheapest", "--within", "-1"], "such as 0.5, not -1"),
        (["--within", "0.5"], "'accuracy' has no use"),
        (["--cost", "latency"], "'accuracy' has no use"),
        (["--objective", "pareto", "--against", "best"], "'pareto' has no use"),
        (["--over", "iso"], "'iso' needs multiply-adds"),
        (
            ["--over", "iso", "--budget", "1MMAC", "--objective", "pareto"],
            "all networks",
        ),
        (["--budget", "1MMAC,2MMAC"], "two limits of macs"),
        (["--quantize", "int8"], "int8 is not of saved_model"),
        (["--format", "onnx"], "say what latency is measured of"),
        (["--recipe", "nothing"], "recipe"),
        (["--recipe", "folder"], "is for no data by itself"),
        (["--recipe", "folder", "--data", "nothing"], "nothing"),
    ],
)
def test_conflicting_flags_are_one_line(arguments, message, workplace):
    result = CliRunner().invoke(main, ["tune", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def trial_of(number: int, accuracy: float, macs: float, **values: object) -> Trial:
    metrics = {"val_accuracy": accuracy, "macs": macs, "score": accuracy}
    return Trial(str(number), "COMPLETED", "", dict(values), metrics, Path())


def test_the_front_and_the_best_are_not_beaten_for_less():
    made = [(0.8, 3), (0.9, 5), (0.7, 4), (0.9, 4)]
    trials = [trial_of(i, *each) for i, each in enumerate(made)]
    assert [trial.id for trial in pareto_front(trials)] == ["0", "3"]
    assert best_of(trials, Objective()) == trials[3]
    assert best_of([], Objective()) is None


def test_a_report_tells_refused_trials_from_failed_ones(recipe, tmp_path):
    described = {"recipe": recipe.to_dict(), "objective": "accuracy"}
    files.write_json(tmp_path / "search.json", described)
    for i, reason in enumerate(("budget: 3MMAC are over 2MMAC", "it diverged", None)):
        place = tmp_path / f"tuner/trial_{i}"
        place.mkdir(parents=True)
        files.write_json(
            place / "trial.json",
            {
                "trial_id": str(i),
                "status": "FAILED" if reason else "RUNNING",
                "message": reason,
                "hyperparameters": {"values": {"units": i}},
                "metrics": {"metrics": {}},
            },
        )
    report = write_report(tmp_path)
    text = (report / "README.md").read_text()
    assert "0 trials completed, 1 failed, 1 over the budget" in text
    assert (report / "trials.csv").read_text().splitlines() == [
        "trial,status,units,reason",
        "0,FAILED,0,budget: 3MMAC are over 2MMAC",
        "1,FAILED,1,it diverged",
        "2,RUNNING,2,",
    ]


def trials_by(accuracy, count=60):
    """Trials of depth and C in turn, and a rate that means nothing."""
    draw = np.random.default_rng(0)
    made = [(i % 3, i % 2, draw.random()) for i in range(count)]
    noise = 0.001 * draw.normal(size=count)
    return [
        trial_of(i, accuracy(depth, groups) + noise[i], 1,
                 units=depth, cardinality=groups, l2=rate)
        for i, (depth, groups, rate) in enumerate(made)
    ]  # fmt: skip


def test_importance_finds_what_matters_and_what_chance_explains():
    trials = trials_by(lambda depth, _: 0.5 + 0.1 * depth)
    shares = importance(trials)
    assert next(iter(shares)) == "units"
    assert shares["units"].share > 0.95
    assert shares["units"].matters
    assert not shares["l2"].matters
    assert not shares["cardinality"].matters
    told = sentences(trials)
    assert told[0].startswith("`units` matters: 2 gives 70.1% (±0.0 points), 0 50.0%")
    assert "`l2`" in told[1]
    # Nine trials say little: chance alone brings as much as a search once reported.
    few = importance(trials_by(lambda *_: 0.5, 9))
    assert few["units"].chance > 0.3


def test_what_is_expected_of_a_lucky_trial_is_less():
    draw = np.random.default_rng(0)
    true = [0.7 + 0.01 * (i % 5) for i in range(40)]
    trials = [
        trial_of(i, accuracy + 0.02 * draw.normal(), 1, units=i % 5, l2=draw.random())
        for i, accuracy in enumerate(true)
    ]
    hopes = expected_accuracy(trials, 0.02)
    error = np.abs(np.array(hopes) - true).mean()
    assert error < 0.7 * np.mean(
        [abs(t.accuracy - a) for t, a in zip(trials, true, strict=True)]
    )
    lucky = max(range(40), key=lambda i: trials[i].accuracy - true[i])
    assert hopes[lucky] < trials[lucky].accuracy - 0.02
    # Without noise all is believed; where all is noise, nothing.
    assert expected_accuracy(trials, 1e-9) == pytest.approx(
        [trial.accuracy for trial in trials]
    )
    assert len(set(expected_accuracy(trials, 1.0))) == 1


def test_effects_are_what_each_value_gives():
    trials = trials_by(lambda depth, groups: 0.5 + 0.1 * depth - 0.02 * groups)
    found = effects(trials[:40])  # not as many of each
    means = {effect.value: effect.mean for effect in found["units"]}
    assert means["1"] - means["0"] == pytest.approx(0.1, abs=2e-3)
    groups = {effect.value: effect for effect in found["cardinality"]}
    assert groups["1"].mean - groups["0"].mean == pytest.approx(-0.02, abs=2e-3)
    assert 0 < groups["0"].error < 1e-3
    assert len(found["l2"]) == 4
    assert effects(trials[:2]) == {}
    assert effects([]) == {}


def test_effects_of_what_only_some_trials_have():
    """As cardinality, of bottlenecks: both units are equal where groups are 1."""
    trials = []
    for i in range(40):
        values = {"block": ("basic", "bottleneck")[i % 2], "l2": i % 3}
        if values["block"] == "bottleneck":
            values["cardinality"] = (1, 4)[i // 2 % 2]
        accuracy = 0.8 + 0.1 * (values.get("cardinality") == 4) + 1e-3 * (i % 5)
        trials.append(trial_of(i, accuracy, 1, **values))
    found = effects(trials)
    assert [effect.value for effect in found["cardinality"]] == ["1", "4"]
    one, four = (effect.mean for effect in found["cardinality"])
    assert four - one == pytest.approx(0.1, abs=2e-3)
    basic, bottleneck = (effect.mean for effect in found["block"])
    assert bottleneck - basic == pytest.approx(0.05, abs=2e-3)


def test_all_is_drawn_with_few_trials_and_with_many(tmp_path):
    many = trials_by(lambda depth, _: 0.5 + 0.1 * depth, 20)
    noise = Noise([0.5, 0.52], 100, 0.1)
    for i, trials in enumerate((many[:1], many)):
        folder = tmp_path / str(i)
        folder.mkdir()
        search_plots.draw_pareto(trials, "macs", noise, folder / "pareto.png")
        search_plots.draw_effects(effects(trials), folder / "effects.png")
        shares = importance(trials)
        search_plots.draw_importance(shares, len(trials), folder / "importance.png")
        assert all(path.stat().st_size > 1000 for path in folder.iterdir())


def compared(test, default, *others, **objective):
    """Of finalists "0", "1", ... whose validation images say what test images do."""
    finalists = [
        Finalist(str(i), 10 - i, each, each) for i, each in enumerate((test, *others))
    ]
    seeds = [*range(len(test))]
    reference = Finalist("default", 20, default, default)
    return compare(Objective(**objective), seeds, finalists, reference)


def test_pictures_of_few_trials_say_so(tmp_path, monkeypatch):
    """No empty frame, and no panel of one value."""
    drawn, notes = [], []
    monkeypatch.setattr(search_plots, "write_figure", lambda _, f: drawn.append(f))
    monkeypatch.setattr(search_plots, "write_note", lambda _, text: notes.append(text))
    much, little = Importance(0.4, 0.1), Importance(0.0, 0.1)
    search_plots.draw_importance({"depth": much}, 3, tmp_path)
    search_plots.draw_importance({"depth": little, "k": little}, 20, tmp_path)
    search_plots.draw_importance({"depth": much, "k": little}, 20, tmp_path)
    assert notes == [
        "too few trials for importance: 3, not 8",
        "no hyperparameter matters more than chance would have it",
    ]
    assert len(drawn) == 1
    depths = {"0": 20, "1": 26}
    shapes = {key: {"depth": n, "k": 1.0, "C": 1} for key, n in depths.items()}
    monkeypatch.setattr(search_plots, "shape_of", lambda trial, _: shapes[trial.id])
    two = [trial_of(0, 0.8, 3e6), trial_of(1, 0.9, 5e6)]
    search_plots.draw_shapes(two, cifar_resnet(20), tmp_path)
    assert [axes.get_xlabel() for axes in drawn[-1].axes] == ["depth (layers)"]
    search_plots.draw_shapes(two[:1], cifar_resnet(20), tmp_path)
    assert notes[-1] == "all trials have one depth, width and cardinality"


def test_winner_and_default_are_paired_by_seed():
    shown = compared([0.91, 0.93, 0.92, 0.94], [0.90, 0.91, 0.91, 0.92])
    assert shown.p_value < 0.05 < shown.difference * 10
    assert "different" in shown.verdict
    assert "no difference shown" in compared([0.91, 0.90], [0.90, 0.91]).verdict
    alone = compared([0.9], [0.9])
    assert "too little" in alone.verdict
    json.dumps([shown.to_dict(), alone.to_dict()], allow_nan=False)


def test_a_final_names_the_winner_and_who_ties_with_it():
    default = [0.90, 0.91, 0.90, 0.92]
    even, worse = [0.93, 0.92, 0.93, 0.93], [0.80, 0.81, 0.80, 0.82]
    best = [0.93, 0.93, 0.92, 0.94]
    found = compared(even, default, best, worse)
    assert (found.trial, found.ties) == ("1", ["0"])
    assert found.verdict.endswith("trial 1 ties with 0")
    # The cheapest that is not less accurate by a point: the last is by ten.
    cheapest = compared(even, default, best, worse, kind="cheapest", within=1)
    assert (cheapest.trial, cheapest.ties) == ("1", [])
    assert "): not less accurate by 1 point; at 45% of its" in cheapest.verdict
    unsure = compared([0.90, 0.93, 0.88, 0.92], default, kind="cheapest", within=0.5)
    assert "not shown to be not less accurate by 0.5 points" in unsure.verdict
    # None is shown to be as accurate: not the cheaper one, whose mean alone is.
    spread = [0.94, 0.88, 0.93, 0.88]
    nearest = compared([0.90, 0.91, 0.90, 0.91], default, spread, kind="cheapest",
                       within=0)  # fmt: skip
    assert nearest.trial == "0"
    assert compared([0.90], [0.90], [0.895], kind="cheapest", within=1).trial == "1"


@pytest.mark.slow
def test_a_search_of_the_previous_version_is_resumed(workplace):
    """Made by that version with `--trials 1`; what it wrote stays as it was."""
    previous = ROOT / "tests" / "golden" / "previous"
    shutil.copytree(previous / "search", "search")
    (before,) = read_trials(Path("search"))
    result = CliRunner().invoke(
        main,
        [
            "tune", "--space", str(previous / "space.json"),
            "--recipe", str(previous / "golden.json"), "--data", "digits",
            "--epochs", "1", "--trials", "2", "--folder", "search", "--no-track",
        ],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    first, second = read_trials(Path("search"))
    assert first == before
    assert (first.values, second.values) == ({"depth": 8}, {"depth": 14})
    assert second.status == "COMPLETED"
    page = Path("search/report/README.md").read_text()
    assert "2 trials completed" in page


def test_the_cheapest_is_as_accurate_as_the_default():
    made = [(0.90, 9), (0.90, 9), (0.895, 4), (0.88, 2), (0.897, 5), (0.96, 20)]
    trials = [trial_of(i, *each) for i, each in enumerate(made)]
    for i in (0, 1):
        trials[i].values[DEFAULT] = i

    def best(**fields):
        return best_of(trials, Objective(kind="cheapest", **fields)).id

    assert best(within=0.5) == "2"
    assert best(within=0.4) == "4"
    assert best(within=0.2) == "5"
    assert best(within=5) == "3"
    assert best(within=0.5, against="best") == "5"
    assert [t.id for t in ranked(trials, Objective())][:2] == ["5", "4"]
    # Where none is as accurate, the one that comes nearest for its cost.
    assert best_of(trials[:4], Objective(kind="cheapest", within=0)).id == "2"


def test_a_final_of_the_cheapest_has_a_sure_network_too():
    made = [(0.90, 9), (0.90, 9), (0.85, 1), (0.896, 2), (0.895, 3), (0.90, 4),
            (0.899, 5), (0.91, 6), (0.92, 7)]  # fmt: skip
    trials = [trial_of(i, *each) for i, each in enumerate(made)]
    for i in (0, 1):
        trials[i].values[DEFAULT] = i
    cheapest = Objective(kind="cheapest", within=0.5)

    def ids(count, objective=cheapest):
        return [trial.id for trial in finalists(trials, objective, count)]

    assert ids(1) == ["3"]
    assert ids(2) == ["3", "8"]
    assert ids(3) == ["3", "7", "8"]
    assert ids(4) == ["3", "5", "7", "8"]
    assert ids(6) == ["3", "5", "7", "8", "4", "6"]  # others by their cost
    assert ids(2, Objective()) == ["8", "7"]


def test_a_lucky_trial_is_not_the_best_where_noise_is_known(tmp_path):
    made = [0.80, 0.80, 0.80, 0.81, 0.79, 0.85, 0.79, 0.80, 0.84, 0.84, 0.85, 0.84]
    trials = [
        trial_of(i, accuracy, 1, units=1 + i // 4) for i, accuracy in enumerate(made)
    ]
    assert best_of(trials, Objective()).id == "5"  # the first of the highest
    defaults = []
    for seed, accuracy in enumerate((0.80, 0.82)):
        run = tmp_path / str(seed)
        run.mkdir()
        write_correct(run, np.arange(100) % 5 != 0)
        default = trial_of(20 + seed, accuracy, 1, **{DEFAULT: seed})
        defaults.append(default._replace(run=run))
    # Others of its units are not as good; of the other two, three of four are.
    assert best_of([*defaults, *trials], Objective()).id == "10"


def test_noise_is_that_of_seeds_or_of_images(tmp_path):
    def noise(accuracies, wrong):
        trials = []
        for seed, (accuracy, images) in enumerate(zip(accuracies, wrong, strict=True)):
            run = tmp_path / f"{len(list(tmp_path.iterdir()))}"
            run.mkdir()
            correct = np.ones(100, bool)
            correct[images] = False
            write_correct(run, correct)
            made = trial_of(seed, accuracy, 1, **{DEFAULT: seed})
            trials.append(made._replace(run=run))
        return read_noise(trials)

    # Equal accuracies, but 10 of 100 images differ: sqrt(0.1 / 100) is 3.2 points.
    found = noise([0.9, 0.9], [[*range(5)], [*range(5, 10)]])
    assert found.disagreement == pytest.approx(0.1)
    assert found.difference == pytest.approx(1.96 * 0.0316, rel=1e-2)
    told = found.lines(Objective())
    assert "must differ by 6.2 points" in told[0]
    assert "about 6,000 images" in told[1]
    cheapest = Objective(kind="cheapest", within=2)
    assert "more than a network may lose (2 points)" in found.lines(cheapest)[1]
    assert len(found.lines(Objective(kind="cheapest", within=7))) == 1
    # Spread of 2 points: sqrt(2) of that between two.
    found = noise([0.90, 0.92, 0.88], [[1], [1], [1]])
    assert found.difference == pytest.approx(1.96 * 0.02 * 2**0.5)
    assert noise([0.9], [[1]]) is None


@pytest.mark.slow
@pytest.mark.parametrize("tuner", ["grid", "bayesian"])
def test_the_default_is_trained_first_and_says_what_is_noise(
    tuner, recipe, splits, workplace
):
    shown = io.StringIO()
    space = tuning.Space(units=(1, 2), k=(0.5, 1.0))
    recipe = recipe.replace(model=recipe.model.replace(k=2))  # dearer than all of it

    def run(trials):
        return tuning.search(
            space, recipe, data=splits, tuner=tuner, trials=trials, folder="search",
            baseline=2, objective="cheapest", within=30,
            console=Console(file=shown, width=200),
        )  # fmt: skip

    run(4)
    found = run(6)
    assert [trial.is_default for trial in found.trials] == [True] * 2 + [False] * 4
    first, second = found.trials[:2]
    assert first.recipe == second.recipe
    assert first.metrics["loss"] != second.metrics["loss"]
    assert len({str(t.hyperparameters) for t in found.trials[2:]}) == 4
    assert "2 seeds; two trials must differ by" in shown.getvalue()
    assert "trial 0  default, seed 0" in shown.getvalue()
    page = Path("search/report/README.md").read_text()
    assert "two trials must differ by" in page
    assert "| accuracy | expected |" in page
    least = (first.accuracy + second.accuracy) / 2 - 0.3
    cheaper = [
        t.metrics["macs"] for t in found.trials[2:] if t.accuracy >= least
    ]  # fmt: skip
    assert found.best.metrics["macs"] == min(cheaper)
    with pytest.raises(tuning.SearchError, match="1 trial in alone, all of the"):
        tuning.search(space, recipe, data=splits, trials=4, baseline=2, folder="alone",
                      budget="0.001s")  # fmt: skip
    with pytest.raises(tuning.SearchError, match="another baseline"):
        tuning.search(space, recipe, data=splits, tuner=tuner, trials=8, baseline=3,
                      folder="search", objective="cheapest", within=30)  # fmt: skip


@pytest.mark.slow
def test_latency_is_measured_on_the_export_once_a_network(recipe, splits, workplace):
    result = tuning.search(
        tuning.Space(l2=(1e-4, 1e-3)), recipe.over(1), data=splits, tuner="grid",
        trials=2, folder="search", objective="pareto", cost="latency", baseline=0,
    )  # fmt: skip
    one, other = result.trials
    assert 0 < one.metrics["latency"] == other.metrics["latency"] < 1
    assert len([*Path("search/latency").iterdir()]) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "export", [Export(), Export("openvino"), Export("openvino", "int8")]
)
def test_latency_is_that_of_the_export_that_is_served(export, tiny_spec, tmp_path):
    model = keras_resnet.build(tiny_spec)
    for _ in range(2):
        assert 0 < measure_latency(model, tiny_spec, export, tmp_path) < 1
    assert 0 < measure_latency(model, tiny_spec, Export("litert"), tmp_path) < 1
    assert len([*Path(tmp_path, "latency").iterdir()]) == 2  # once for each


@pytest.mark.parametrize("damage", ["cut", "[]", '{"ongoing_trials": 5}'])
def test_a_damaged_state_is_refused_in_one_line(workplace, damage):
    previous = ROOT / "tests/golden/previous"
    shutil.copytree(previous / "search", "search")
    state = Path("search/tuner/oracle.json")
    state.write_text(state.read_text()[:50] if damage == "cut" else damage)
    done = CliRunner().invoke(
        main,
        [
            "tune", "--space", str(previous / "space.json"),
            "--recipe", str(previous / "golden.json"), "--data", "digits",
            "--epochs", "1", "--trials", "2", "--folder", "search", "--no-track",
        ],
    )  # fmt: skip
    assert done.exit_code == 2, done.output
    last = done.output.splitlines()[-1]
    assert last.startswith("Error: search: can't read its state in search/tuner: ")


@pytest.mark.parametrize("text", ["[1]", "{}", '{"recipe": {}, "baseline": "x"}'])
def test_damaged_settings_of_a_search_are_refused_by_the_command(tmp_path, text):
    (tmp_path / "search.json").write_text(text)
    arguments = ["tune", "--folder", str(tmp_path), "--no-track"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "search.json is damaged" in refused.output
