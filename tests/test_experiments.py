"""The papers' claims as experiments: the table, its runs, its verdicts."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import generated
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT
from images import labels, noise

from keras_resnet import ResNetSpec, cifar_resnet, estimate_cost
from keras_resnet.cli import main
from keras_resnet.errors import RunFolderError
from keras_resnet.experiments import (
    EXPERIMENTS,
    Arm,
    Claim,
    Experiment,
    ExperimentError,
    get_experiment,
    report,
    run,
    setting_of,
)
from keras_resnet.experiments.claims import spec_at
from keras_resnet.experiments.power import needs
from keras_resnet.experiments.reporting import markdown
from keras_resnet.experiments.results import FAILED, Outcome, collect
from keras_resnet.experiments.scale import BUDGETS, recipe_of, run_name
from keras_resnet.experiments.verdicts import judge
from keras_resnet.run import Run
from keras_resnet.surgery import deepen

TINY = {"widths": (4, 8, 8), "stem_width": 4}


def test_the_table_is_sound():
    for name, experiment in EXPERIMENTS.items():
        assert experiment.name == name
        names = [arm.name for arm in experiment.arms]
        assert len(set(names)) == len(names)
        for claim in experiment.claims:
            assert {claim.less, claim.more} <= set(names)
            # Both are run at some budget.
            less, more = (
                next(arm for arm in experiment.arms if arm.name == end)
                for end in (claim.less, claim.more)
            )
            assert any(
                spec_at(less, budget) and spec_at(more, budget) for budget in BUDGETS
            ), f"{name}: {claim.text}"
        for budget in BUDGETS:
            setting = setting_of(experiment, budget)
            for arm in experiment.arms_at(budget):
                assert recipe_of(experiment, arm, setting, 100).model == spec_at(
                    arm, budget
                )


def test_networks_that_are_compared_at_equal_cost_have_equal_cost():
    """Width against depth: parameters and multiply-adds; cardinality: multiply-adds."""
    costs = {
        arm.name: estimate_cost(arm.short.replace(input_shape=(14, 14, 1)))
        for name in ("width", "cardinality")
        for arm in EXPERIMENTS[name].arms_at("short")
    }
    thin = costs["wrn46_1"]
    for wide in ("wrn16_2", "wrn10_3"):
        assert costs[wide].params == pytest.approx(thin.params, rel=0.05)
        assert costs[wide].macs == pytest.approx(thin.macs, rel=0.05)
    for name in ("c2", "c4", "c8", "c32"):
        assert costs[name].macs == pytest.approx(costs["c1"].macs, rel=0.05)


def test_equal_arms_share_their_runs():
    names = [
        run_name(EXPERIMENTS[experiment], arm, BUDGETS["short"], 0)
        for experiment, name in (
            ("degradation", "resnet20"),
            ("shortcuts", "identity"),
            ("practice", "usual"),
            ("practice", "cosine"),
            ("construction", "resnet56_grown"),
            ("construction", "resnet56"),
            ("stochastic_depth", "constant"),
        )
        for arm in EXPERIMENTS[experiment].arms
        if arm.name == name
    ]
    assert names[0] == names[1] == names[2] != names[3]
    assert names[4] != names[5] == names[6]


def outcome(name: str, error: float, seed: int = 0, **measures: float) -> Outcome:
    arm = Arm(name, name, None, None)
    measures = {"test_error": error, **measures}
    return Outcome(arm, seed, Path(), measures, [], {}, 0, 0, classes=10)


@pytest.mark.parametrize(
    ("less", "more", "verdict"),
    [
        ([0.10, 0.11, 0.10], [0.20, 0.21, 0.20], "confirmed"),
        ([0.20, 0.21, 0.20], [0.10, 0.11, 0.10], "contradicted"),
        ([0.10, 0.20, 0.15], [0.11, 0.19, 0.17], "undecided"),
        ([0.10], [0.90], "undecided"),
        ([0.10, 0.10], [0.20, 0.20], "undecided"),
        ([0.10, 0.10, 0.10], [0.20, 0.20, 0.20], "confirmed"),
        ([0.10, 0.11, 0.12], [math.inf] * 3, "confirmed"),
        ([0.10, 0.11], [math.inf] * 2, "undecided"),
        ([math.inf] * 3, [0.10, 0.11, 0.12], "contradicted"),
        ([0.10, 0.11, 0.10], [0.12, 0.12, math.inf], "undecided"),
        ([], [0.10], "not run"),
        ([0.10, 0.11, 0.10], [0.90, 0.90, 0.89], "confirmed"),
        ([0.50, 0.51, 0.50], [0.90, 0.90, 0.89], "says nothing"),
        ([0.50, 0.51, 0.50], [math.inf] * 3, "says nothing"),
        ([math.inf] * 3, [math.inf] * 3, "says nothing"),
    ],
)
def test_a_verdict_is_what_a_test_over_the_seeds_says(less, more, verdict):
    claim = Claim("test_error", "a", "b", "a errs less than b", "here")
    outcomes = [outcome("a", value) for value in less]
    outcomes += [outcome("b", value) for value in more]
    assert judge(claim, outcomes).verdict == verdict
    smoke = judge(claim, outcomes, "smoke")
    assert smoke.verdict == ("says nothing" if less else "not run")


def test_an_effect_that_is_less_than_half_of_the_papers_is_none():
    claim = Claim("test_error", "a", "b", "a errs less", "here")
    outcomes = [outcome("a", 0.1 + noise) for noise in (-1e-3, 0, 1e-3)]
    outcomes += [outcome("b", 0.101 + noise) for noise in (-1e-3, 0, 1e-3)]
    # The 90 % interval is 0.1 points and 2.132 * sqrt(2 * 0.01 / 3) around them.
    assert judge(claim, outcomes, effect=0.58).verdict == "no effect"
    assert judge(claim, outcomes, effect=0.54).verdict == "undecided"
    assert judge(claim, outcomes).verdict == "undecided"
    judged = judge(claim, outcomes, effect=0.58)
    assert judged.reason.endswith("; less than half of the paper's 0.58 points")


def test_the_papers_effect_is_that_of_its_errors_or_given():
    shortcuts, orders = EXPERIMENTS["shortcuts"], EXPERIMENTS["orders"]
    assert orders.effect_of(orders.claims[1]) == pytest.approx(8.17 - 6.37)
    assert shortcuts.effect_of(shortcuts.claims[-1]) == 0.51
    assert shortcuts.effect_of(shortcuts.claims[3]) is None  # gates: no number


def test_undecided_claims_tell_what_they_take(workplace):
    experiment = small(
        arms=(
            Arm("a", "a", cifar_resnet(8, **TINY), None, error=5.0),
            Arm("b", "b", cifar_resnet(8, merge="none", **TINY), None, error=7.0),
        )
    )
    outcomes = [outcome("a", 0.1 + noise) for noise in (-0.01, 0, 0.01)]
    outcomes += [outcome("b", 0.11 + noise) for noise in (-0.01, 0, 0.01)]
    judged = [judge(claim, outcomes, effect=2.0) for claim in experiment.claims]
    [need] = needs(experiment, judged, outcomes)
    # Of t-tests at the 5 % level with a power of 90 %: Cohen 1988, Table 2.4.1.
    assert (need.effect, need.noise) == (2.0, pytest.approx(1.0))
    assert (need.seeds, need.seeds_for_half) == (7, 23)
    decided = [judged[0]._replace(verdict="confirmed")]
    assert needs(experiment, decided, outcomes) == []


@pytest.mark.parametrize("name", generated.verdicts())
def test_stored_results_are_judged_as_their_pages_say(name):
    """Test errors of all runs are kept; what they say comes out again."""
    experiment, outcomes = EXPERIMENTS[name], generated.stored_outcomes(name)
    page = (ROOT / "docs/results" / name / "README.md").read_text()
    rows = generated.verdicts()[name]
    kept = {row["claim"]: row for row in rows if row["measure"] == "test_error"}
    for claim in experiment.claims if outcomes else ():
        if claim.text in kept and claim.measure == "test_error":
            judged = judge(claim, outcomes, "short", experiment.effect_of(claim))
            found = kept[claim.text]
            assert (judged.verdict, judged.reason) == (
                found["verdict"], found["because"],
            )  # fmt: skip
            assert f"**{judged.verdict}** | test error: {judged.reason} |" in page
    if len(power := generated.power_rows(name)) > 1:
        assert markdown(power) in page
    else:
        assert "What it would take" not in page


def test_what_is_not_learnt_is_known_of_networks_that_have_not():
    claim = Claim("step_seconds", "a", "b", "a takes less", "here")
    outcomes = [
        outcome(name, 0.9, step_seconds=seconds + 0.001 * i)
        for name, seconds in (("a", 0.1), ("b", 0.2))
        for i in range(3)
    ]
    assert judge(claim, outcomes).verdict == "confirmed"
    claim = Claim("test_error", "a", "b", "a errs less", "here")
    reason = judge(claim, outcomes).reason
    assert reason == (
        "neither has learnt: the test error is 90.0% at best, that of guessing 90.0%"
    )


def test_the_interval_is_welch_s():
    """Against a hand computation: s^2 is 1e-4 each, df 4, t = 2.776."""
    claim = Claim("test_error", "a", "b", "", "")
    outcomes = [outcome(name, mean + noise) for name, mean in (("a", 0.1), ("b", 0.2))
                for noise in (-0.01, 0, 0.01)]  # fmt: skip
    judged = judge(claim, outcomes)
    half = 2.776445 * math.sqrt(2 * 1e-4 / 3)
    assert judged.difference[:3] == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert judged.reason == "+10.00 points (+7.73 to +12.27), p = 0.00026"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs_at_smoke(name, runs):
    """Shared runs are trained once: the module's folder is one."""
    experiment = EXPERIMENTS[name]
    arms = {arm.name: arm for arm in experiment.arms_at("smoke")}
    claims = [c for c in experiment.claims if {c.less, c.more} <= arms.keys()]
    if name == "pareto":
        experiment = experiment._replace(arms=tuple(arms.values())[:2])
    elif not any(arm.grown_from for arm in arms.values()):
        pair = {claims[0].less, claims[0].more}  # of the first claim
        claims = [claim for claim in claims if {claim.less, claim.more} == pair]
        experiment = experiment._replace(arms=tuple(map(arms.get, sorted(pair))))
    experiment = experiment._replace(claims=tuple(claims))
    setting = setting_of(experiment, "smoke", train_images=64, steps=2)
    assert run(experiment, setting, seeds=[0], folder=runs) == []
    written = report(experiment, setting, folder=runs)
    assert len(written.rows) == len(experiment.arms_at("smoke"))
    verdicts = [judged.verdict for judged in written.verdicts]
    assert verdicts == ["says nothing"] * len(claims)
    assert claims or name == "pareto"
    assert [path.stem for path in written.figures] == list(experiment.figures)
    text = written.page.read_text()
    assert experiment.title in text
    assert all(arm.label in text for arm in experiment.arms_at("smoke"))


def small(**changes) -> Experiment:
    """Two networks of 8 layers; one that grows from the first."""
    fields = {
        "name": "small",
        "title": "A test",
        "source": "here",
        "arms": (
            Arm("a", "a", cifar_resnet(8, **TINY), None),
            Arm("b", "b", cifar_resnet(8, merge="none", **TINY), None),
            Arm("c", "c", cifar_resnet(14, **TINY), None, grown_from="a"),
        ),
        "claims": (Claim("test_error", "a", "b", "a errs less", "here"),),
        "figures": ("curves", "errors"),
        **changes,
    }
    return Experiment(**fields)


def test_what_has_ended_is_not_run_again_and_growth_starts_equal(workplace):
    experiment = small()
    setting = setting_of(experiment, "smoke", train_images=64, steps=2)
    run(experiment, setting, seeds=[0, 1], folder=workplace)
    place = workplace / setting.name
    results = sorted(place.glob("*/result.json"))
    assert len(results) == 6
    times = [path.stat().st_mtime_ns for path in results]
    run(experiment, setting, seeds=[0, 1], folder=workplace)
    assert [path.stat().st_mtime_ns for path in results] == times
    assert not list(place.glob("*/export"))  # nobody serves them

    ended = collect(experiment, setting, workplace, [0])
    folders = {each.arm.name: each.folder for each in ended}
    old = Run(folders["a"]).load_model()
    spec = json.loads((folders["a"] / "recipe.json").read_text())["model"]
    spec = ResNetSpec.from_dict(spec)
    images = np.random.default_rng(0).integers(0, 255, (4, 8, 8, 1)).astype("uint8")
    grown = deepen(old, spec.replace(depths=(1, 1, 1)).depths, spec=spec)
    np.testing.assert_allclose(
        grown.predict_on_batch(images), old.predict_on_batch(images), atol=1e-4
    )


def test_a_diverged_run_counts_as_one_and_is_not_repeated(workplace):
    experiment = small(
        arms=(
            Arm("a", "a", cifar_resnet(8, **TINY), None),
            Arm("b", "b", cifar_resnet(8, norm="none", **TINY), None,
                changes={"learning_rate": 1e30}),
            Arm("c", "c", cifar_resnet(14, norm="none", **TINY), None,
                grown_from="b"),
        )
    )  # fmt: skip
    setting = setting_of(experiment, "smoke", train_images=64, steps=2)
    run(experiment, setting, seeds=[0, 1], folder=workplace)
    assert len(list((workplace / setting.name).glob(f"*/{FAILED}"))) == 4
    written = report(experiment, setting, folder=workplace)
    assert [judged.verdict for judged in written.verdicts] == ["says nothing"]
    text = written.page.read_text()
    assert "diverged" in text
    assert "b failed, which it grows from" in text
    assert str(workplace) not in text


def test_a_folder_keeps_one_data_set(workplace):
    """Of one name, but changed."""
    experiment = small(arms=(Arm("a", "a", cifar_resnet(8, **TINY), None),))
    file = workplace / "mine.npz"
    setting = setting_of(experiment, "smoke", data=str(file), steps=2)
    for seed in (0, 1):
        np.savez(file, images=noise(40, seed=seed), labels=labels(40))
        if seed:
            with pytest.raises(RunFolderError, match=r"mine\.npz has changed since"):
                run(experiment, setting, seeds=[1], folder=workplace)
        else:
            run(experiment, setting, seeds=[0], folder=workplace)


def test_a_folder_keeps_one_setting(workplace):
    experiment = small()
    setting = setting_of(experiment, "smoke", train_images=64, steps=2)
    other = setting._replace(batch_size=16)
    assert other.name == setting.name
    run(experiment._replace(arms=()), setting, folder=workplace)
    with pytest.raises(ExperimentError, match="another setting"):
        run(experiment._replace(arms=()), other, folder=workplace)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "degradatoin"], "none is named 'degradatoin'; closest: degradation"),
        (["report", "width"], "has no runs of this setting yet"),
        (["run", "width", "--budget", "huge"], "'huge' is not one of"),
        (["run", "width", "--data", "nothing"], "nothing"),
        (["run", "width", "--seeds", "0"], "0 is not in the range"),
    ],
)
def test_mistakes_are_one_line(workplace, arguments, message):
    result = CliRunner().invoke(main, ["experiment", *arguments])
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_list_names_all(workplace):
    result = CliRunner().invoke(main, ["experiment", "list", "--json"])
    assert [row["name"] for row in json.loads(result.output)] == list(EXPERIMENTS)
    assert (
        get_experiment("width").name
        in CliRunner().invoke(main, ["experiment", "list"]).output
    )


@pytest.mark.slow
def test_killed_it_goes_on_nested_in_one_mlflow_run(workplace):
    """A process of its own, killed within a run; then the same command."""
    command = [
        sys.executable, "-m", "keras_resnet.cli", "experiment", "run", "orders",
        "--budget", "smoke", "--seeds", "1", "--train-images", "64", "--steps", "4",
    ]  # fmt: skip
    place = workplace / "runs/experiments/smoke-digits-64images-4steps"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as killed:
        until = time.monotonic() + 120
        while len(list(place.glob("*/history.jsonl"))) < 2:
            assert time.monotonic() < until
            assert killed.poll() is None
            time.sleep(0.05)
        os.kill(killed.pid, signal.SIGKILL)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(list(place.glob("*/result.json"))) == 5
    assert "report  runs/experiments" in done.stdout

    import mlflow

    client = mlflow.MlflowClient("sqlite:///mlflow.db")
    [found] = client.search_experiments(filter_string="name = 'keras_resnet'")
    tracked = client.search_runs([found.experiment_id])
    [parent] = [r for r in tracked if "mlflow.parentRunId" not in r.data.tags]
    children = [r for r in tracked if r is not parent]
    assert parent.data.tags["experiment"] == "orders"
    assert len(children) == 5
    assert {r.data.tags["mlflow.parentRunId"] for r in children} == {parent.info.run_id}
    assert {r.info.status for r in tracked} == {"FINISHED"}
