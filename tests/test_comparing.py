from __future__ import annotations

import csv
import json

import pytest
import targets
from click.testing import CliRunner
from test_reference import counts

from keras_resnet import estimate_cost, get_spec
from keras_resnet.analysis import charts, comparing, timing_charts, timings
from keras_resnet.analysis.comparing import Comparison
from keras_resnet.analysis.published import (
    WINNERS,
    NetworkResult,
    lecture,
    published_results,
)
from keras_resnet.analysis.reference import REFERENCES
from keras_resnet.analysis.timings import Timing
from keras_resnet.cli import main
from keras_resnet.errors import UserError
from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.store import Store
from keras_resnet.units import duration, parse_amount

OWN = NetworkResult(
    "tiny",
    "mine",
    "digits test",
    "as trained",
    2.0,
    None,
    70_000,
    2_000_000,
    "here",
    own=True,
)
TIMINGS = [
    Timing(
        name,
        batch,
        0.01 * scale * batch,
        0.011 * scale * batch,
        100 / scale,
        scale << 20,
        "2 cores of a machine",
    )
    for name, scale in (("alexnet", 1), ("resnet50_v1_5", 3), ("vgg16", 9))
    for batch in (1, 2)
]


def test_published_rows_say_what_they_are():
    rows = published_results()
    assert len({row[:6] for row in rows}) == len(rows) > 100
    references = counts()
    for row in rows:
        assert row.source
        assert row.test_set
        assert row.crop
        assert row.top1_error is not None or row.top5_error is not None
        if row.network in REFERENCES:
            # Inception's own code has a gamma in each batch norm, Keras' hasn't.
            params, macs = references[row.network]
            assert row.params == pytest.approx(params, rel=1e-3)
            assert row.macs == macs
        else:
            classes = {"CIFAR-10 test": 10, "CIFAR-100 test": 100}.get(
                row.test_set, 1000
            )
            cost = estimate_cost(get_spec(row.network, classes=classes))
            assert (row.params, row.macs) == (cost.params, cost.macs)


def test_published_errors_are_the_golden_files():
    golden = {
        (int(row["params"]), row["reported_error_top1"], row["reported_error_top5"])
        for row in targets.rows()
        if not row["reported_error_top1"].startswith(">")
    }
    known = {(params, *map(_number, errors)) for params, *errors in golden}
    others = [
        row.title
        for row in published_results()
        if (row.params, row.top1_error, row.top5_error) not in known
    ]
    # From torchvision's and OpenVINO's documentation.
    assert others == ["AlexNet (one tower)", "GoogLeNet", "Inception-v4"]


def _number(text: str) -> float | None:
    return float(text) if text else None


def test_protocols_are_kept_apart():
    one = published_results("ImageNet validation", "1-crop")
    assert {row.crop for row in one} == {"1-crop 224", "1-crop 227", "1-crop 299"}
    assert all(row.crop == "10-crop" for row in published_results(protocol="10-crop"))
    assert published_results(protocol="1-crop 320")
    with pytest.raises(
        UserError, match="test_set: 'MNIST' is not one of CIFAR-10 test"
    ):
        published_results("MNIST")


def test_lecture_has_a_row_for_each_network():
    rows = lecture()
    assert len({row.network for row in rows}) == len(rows) == 14
    accuracy = {row.title: row.accuracy for row in rows}
    assert accuracy["AlexNet"] == pytest.approx(54.61)
    assert accuracy["ResNet-50"] == pytest.approx(75.76)
    assert [w.top5_error for w in WINNERS if w.won] == [
        28.2,
        25.8,
        16.4,
        11.7,
        6.7,
        3.57,
    ]


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("4.1GMAC", ("macs", 4.1e9)),
        ("300 MMACs", ("macs", 3e8)),
        ("25Mparams", ("params", 25e6)),
        ("25Mparam", ("params", 25e6)),
        ("0.5MiB", ("memory", 2**19)),
        ("1e3kB", ("memory", 1e6)),
        ("30ms", ("time", 0.03)),
        ("1KMACs", ("macs", 1e3)),
        ("2mparam", ("params", 2e6)),
    ],
)
def test_budgets(text, budget):
    quantity, value, _ = parse_amount(text)
    assert (quantity, value) == (budget[0], pytest.approx(budget[1]))


@pytest.mark.parametrize(
    "text", ["", "4.1", "GMAC", "4.1GFLOP", "-3ms", "0ms", "3mss", "1Bs"]
)
def test_budgets_that_are_none(text):
    with pytest.raises(UserError, match="is not a number and a unit"):
        parse_amount(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "1 second"),
        (89, "89 seconds"),
        (700, "12 minutes"),
        (9_000, "2.5 hours"),
        (1e6, "11.6 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_best_under_a_budget():
    entries = lecture()

    def best(text: str) -> str | None:
        found = comparing.best_under(parse_amount(text), entries, TIMINGS)
        return found and found.title

    assert best("4.1GMAC") == "ResNet-50"
    assert best("1.7GMAC") == "GoogLeNet"
    assert best("9Mparams") == "GoogLeNet"
    assert best("1kMAC") is None
    assert best("34ms") == "ResNet-50"
    assert best("2MiB") == "AlexNet"
    with pytest.raises(UserError, match="time was measured at batch 1"):
        comparing.best_under(parse_amount("1s"), entries, [])


def test_charts_and_their_numbers(tmp_path):
    entries = [*lecture(), OWN]
    paths = charts.draw(Comparison(entries, TIMINGS), tmp_path)
    assert len(paths) == 3 * len(charts.ALWAYS + timing_charts.CHARTS)
    assert all(path.stat().st_size > 50 for path in paths)

    def column(name: str, field: str) -> list[str]:
        with (tmp_path / f"{name}.csv").open(newline="") as file:
            return [row[field] for row in csv.DictReader(file)]

    assert "digits test" in column("accuracy_by_operations", "test_set")
    assert float(column("density", "percent_per_million")[0]) == pytest.approx(
        0.896, abs=1e-3
    )
    assert column("images_by_batch", "batch") == ["1", "2"] * 3
    assert column("time_by_operations", "network") == [
        "alexnet",
        "resnet50_v1_5",
        "vgg16",
    ]
    assert column("one_by_one", "multiplications") == [
        "120422400",
        "2408448",
        "10035200",
    ]
    assert not list(tmp_path.glob(".part*"))


def test_own_runs_stand_apart_from_imagenet():
    """They were tested on something else; colors are explained, and what is drawn."""
    comparison = Comparison([*lecture(), OWN], [])
    for make in (charts.accuracy, charts.density, charts.accuracy_by_operations):
        figure = make(comparison).figure
        imagenet, own = figure.axes
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles == ["ImageNet validation", "own runs, digits test"]
        names = [
            [text.get_text() for text in (*axes.get_yticklabels(), *axes.texts)]
            for axes in (imagenet, own)
        ]
        assert "mine" not in names[0]
        assert "mine" in names[1]
        legend = {text.get_text() for text in figure.legends[0].get_texts()}
        assert legend == {"AlexNet", "NiN", "VGG", "ResNet", "Inception"}
    alone = charts.accuracy(Comparison([OWN], [])).figure
    assert alone._supxlabel is None  # it isn't of ImageNet
    (axes,) = charts.accuracy_by_operations(Comparison([OWN], [])).figure.axes
    assert 98 < axes.get_ylim()[1] <= 100.5


def test_runs_of_equal_names_have_a_bar_each():
    entries = [OWN, OWN._replace(top1_error=3.0)]
    (axes,) = charts.accuracy(Comparison(entries, [])).figure.axes
    (bars,) = axes.containers
    assert [bar.get_width() for bar in bars] == [97.0, 98.0]
    assert len({bar.get_y() for bar in bars}) == 2
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["mine", "mine"]


def test_command(workplace):
    done = CliRunner().invoke(main, ["compare", "--out", "figures", "--json"])
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.output)) == 3 * len(charts.ALWAYS)
    done = CliRunner().invoke(main, ["compare", "--budget", "4.2GMAC"])
    assert "published: ResNet-50 A1 (resnet50_v1_5), 80.40 % top-1" not in done.output
    assert done.output.startswith(
        "published: ResNet-50 (recipe V2) (resnet50_v1_5), 80.86 %"
    )
    done = CliRunner().invoke(
        main, ["compare", "--budget", "1Mparams", "--test-set", "CIFAR-10 test"]
    )
    assert done.output.startswith("published: WRN-40-1")
    # ResNet-18 is within it too, by ten crops.
    done = CliRunner().invoke(
        main, ["compare", "--budget", "2GMAC", "--test-set", "ImageNet"]
    )
    assert ", 1-crop 224; " in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--budget", "4GFLOP"], "budget: '4GFLOP' is not a number and a unit"),
        (["--budget", "4ms"], "was measured at batch 1; run compare with --measure"),
        (["--runs", "mine"], "mlflow.db; train here, or set"),
        (["--network", "alexnet"], "network: names what is measured; it needs --meas"),
        (["--measure", "--network", "lenet"], "'lenet' is not one of alexnet"),
        (["--out", "notes.txt"], "can't write to notes.txt"),
    ],
)
def test_mistakes(workplace, arguments, message):
    (workplace / "notes.txt").write_text("notes")
    done = CliRunner().invoke(main, ["compare", *arguments])
    assert done.exit_code == 2
    assert message in done.output
    assert [path.name for path in workplace.iterdir()] == ["notes.txt"]


@pytest.mark.slow
def test_own_runs_join_from_mlflow(workplace):
    client = Store(store_address()).client
    experiment = client.create_experiment("mine")
    params = {"model": "tiny", "params": 70_000, "macs": 2_000_000, "source": "digits"}
    for name, accuracy in (("worse", 0.9), ("better", 0.98)):
        run = client.create_run(experiment, run_name=name).info.run_id
        for key, value in params.items():
            client.log_param(run, key, value)
        client.log_metric(run, "test_accuracy", accuracy)
        client.set_terminated(run, "FINISHED")
    client.create_run(experiment, run_name="running")
    found = comparing.own_runs("mine")
    assert {(run.title, run.accuracy) for run in found} == {
        ("worse", 90),
        ("better", 98),
    }
    done = CliRunner().invoke(
        main, ["compare", "--runs", "mine", "--budget", "3MMAC", "--json"]
    )
    best = json.loads(done.output)
    assert best["published"] is None
    assert best["own, on digits test"]["title"] == "better"
    timings.write_timings(workplace / "comparison", TIMINGS)
    done = CliRunner().invoke(main, ["compare", "--runs", "mine", "--budget", "34ms"])
    assert "published: ResNet-50 (recipe V2) (resnet50_v1_5)" in done.output
    assert "own runs: their time is not measured" in done.output
    with pytest.raises(UserError, match="no experiment is named 'other'; there are "):
        comparing.own_runs("other")
