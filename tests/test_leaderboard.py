from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT
from scipy.stats import binomtest

from keras_resnet.cli import main
from keras_resnet.leaderboard import find
from keras_resnet.run import Run
from keras_resnet.statistics import wilson

PREVIOUS = ROOT / "tests" / "golden" / "previous"


@pytest.fixture
def place(tmp_path):
    """A finished run, one that was stopped, a search, and what is none of these."""
    for name in ("finished", "unfinished", "search"):
        shutil.copytree(PREVIOUS / name, tmp_path / "runs" / "deep" / name)
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "recipe.json").write_text("{}")
    return tmp_path / "runs"


def test_runs_and_searches_are_found(place):
    entries = {entry.path.name: entry for entry in find(place)}
    assert set(entries) == {"finished", "unfinished", "search"}
    finished = entries["finished"]
    result = Run(finished.path).result
    assert finished.accuracy == result["test_accuracy"]
    assert finished.low < finished.accuracy < finished.high
    assert (finished.state, finished.data, finished.network) == (
        "finished", "digits", "golden",
    )  # fmt: skip
    assert finished.macs > 0 < finished.params
    unfinished = entries["unfinished"]
    assert unfinished.state == "epoch 1 of 3"
    assert unfinished.accuracy == pytest.approx(0.1597, abs=1e-4)  # validation
    assert unfinished.low is None
    assert entries["search"].state == "1 trial"
    assert entries["search"].data == "digits", "as the runs on the same images"
    with Run(unfinished.path).lock():
        states = {entry.path.name: entry.state for entry in find(place)}
    assert states["unfinished"] == "running, epoch 1 of 3"


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("result.json", "test_accuracy", "0.99"),
        ("result.json", "test_accuracy", 2.5),
        ("result.json", "test_accuracy", -0.5),
        ("result.json", "test_accuracy", float("nan")),
        ("result.json", "test_images", 0),
        ("result.json", "test_images", 10**400),
        ("data.json", "source", 1),
    ],
)
def test_a_run_of_wrong_numbers_is_damaged_and_the_others_are_listed(
    place, file, key, value
):
    [path] = place.rglob(f"finished/{file}")
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {key: value}))
    found = {entry.path.name: entry for entry in find(place)}
    assert set(found) == {"finished", "unfinished", "search"}
    assert (found["finished"].state, found["finished"].score) == ("damaged", None)


def test_names_from_others_are_shown_clean(place):
    [path] = place.rglob("finished/data.json")
    told = json.loads(path.read_text()) | {"source": "folder:x\x1b[2J\u202e"}
    path.write_text(json.dumps(told))
    table = CliRunner().invoke(main, ["runs", str(place)]).output
    assert "folder:x?[2J?" in table


def test_the_command_sorts_and_prints_json(place):
    listed = CliRunner().invoke(main, ["runs", str(place), "--json", "--sort", "macs"])
    rows = json.loads(listed.output)
    assert [row["macs"] for row in rows] == sorted(row["macs"] for row in rows)
    table = CliRunner().invoke(main, ["runs", str(place)]).output
    assert "epoch 1 of 3" in table
    assert "(15.97%)" in table
    with CliRunner().isolated_filesystem():
        Path("runs").mkdir()
        empty = CliRunner().invoke(main, ["runs"])
        assert "no runs in runs" in empty.output
        missing = CliRunner().invoke(main, ["runs", "nowhere"])
        assert missing.exit_code == 2
        assert "nowhere is not a folder" in missing.output


@pytest.mark.parametrize(("right", "of"), [(0, 10), (5, 10), (97, 100), (1, 1)])
def test_intervals_are_wilsons(right, of):
    expected = binomtest(right, of).proportion_ci(0.95, method="wilson")
    assert wilson(right, of) == pytest.approx(tuple(expected), abs=1e-6)
