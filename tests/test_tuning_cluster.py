"""Chief, workers and their supervisor, as real processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from keras_resnet import runfolder
from keras_resnet.cli import main
from tuning import cluster
from tuning.rows import read_rows

# Stands for a search: a chief that ends when the work is done, and workers that do it.
# What a worker does first is in `plan`; each start is noted in `starts`.
STAND_IN = """
import os, signal, socket, sys, time
from pathlib import Path
name = os.environ["KERASTUNER_TUNER_ID"]
with open("starts", "a") as file:
    file.write(name + "\\n")
starts = Path("starts").read_text().split().count(name)
plan = dict(line.split() for line in Path("plan").read_text().splitlines())
if starts <= int(plan.get(name, 0)):
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
if name == "chief":
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    port = int(os.environ["KERASTUNER_ORACLE_PORT"])
    listening.bind((os.environ["KERASTUNER_ORACLE_IP"], port))
    listening.listen()
    while not Path("done").exists():
        time.sleep(0.02)
else:
    time.sleep(0.5)
    Path("done").touch()
    time.sleep(60 if "stuck" in plan else 0)
"""


def supervised(plan: str, workers: int = 2, deaths: int = 3) -> tuple[int, list[str]]:
    Path("plan").write_text(plan)
    said: list[str] = []
    code = cluster.supervise(
        [sys.executable, "-c", STAND_IN],
        workers,
        cluster.free_address(),
        said.append,
        deaths=deaths,
    )
    return code, said


def test_workers_that_die_are_started_again_under_their_names(workplace):
    code, said = supervised("worker-0 2\nworker-1 9\n", deaths=20)
    assert code == 0
    starts = Path("starts").read_text().split()
    assert starts.count("worker-0") == 3
    assert starts.count("chief") == 1
    assert "worker-0 died (signal 9)" in "\n".join(said)


def test_a_worker_that_dies_at_every_start_ends_the_search(workplace):
    code, said = supervised("worker-0 99\n", workers=1)
    assert code == 1
    assert Path("starts").read_text().split().count("worker-0") == 4
    assert "gave up after" in said[-1]


def test_a_chief_that_dies_is_started_again_with_its_workers(workplace):
    code, said = supervised("chief 1\n")
    assert code == 0
    assert Path("starts").read_text().split().count("chief") == 2
    assert "the chief died (signal 9)" in said[0]


def test_workers_end_with_their_chief(workplace):
    began = time.monotonic()
    code, _ = supervised("stuck 1\n")
    assert code == 0
    assert time.monotonic() - began < 50  # they would sleep for 60


def test_a_worker_does_not_wait_for_ever(workplace):
    address = cluster.free_address()
    with pytest.raises(cluster.ClusterError, match=r"127.0.0.1:\d+ did not answer"):
        cluster.wait_for_chief(address, seconds=0.3)
    # One whose chief goes ends by itself, though it is deep in a call.
    code = (
        "import time; from tuning import cluster\n"
        f"with cluster.ending_with_chief({address!r}, seconds=0.5): time.sleep(60)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 1
    assert "has not answered" in ended.stderr


@pytest.mark.parametrize("text", ["", "here", "here:", "here:0", "here:70000", ":80"])
def test_a_wrong_address_is_one_line(text):
    with pytest.raises(cluster.ClusterError, match="HOST:PORT"):
        cluster.parse_address(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "need --folder"),
        (["--workers", "2", "--folder", "f", "--chief", "a:1"], "with --chief"),
        (["--worker", "w", "--folder", "f"], "needs --chief"),
        (["--worker", "chief2", "--chief", "a:1", "--folder", "f"], "isn't chief's"),
        (["--chief", "nowhere", "--folder", "f"], "HOST:PORT"),
    ],
)
def test_conflicting_flags_are_one_line(arguments, message, workplace):
    result = CliRunner().invoke(main, ["tune", *arguments])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.slow
def test_a_search_by_workers_loses_nothing_by_a_kill(tiny_spec, workplace):
    """A worker is killed in a trial; another joins late."""
    Path("spec.json").write_text(tiny_spec.to_json())
    Path("space.json").write_text('{"name": "two", "units": [1, 2]}')
    host, port = cluster.free_address()
    common = [
        sys.executable, "-m", "keras_resnet.cli", "tune", "--space", "space.json",
        "--spec", "spec.json", "--data", "digits", "--epochs", "3", "--tuner", "grid",
        "--trials", "2", "--no-track", "--strategy", "one", "--folder", "search",
        "--chief", f"{host}:{port}",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as ended:

        def start(*options):
            process = subprocess.Popen([*common, *options], env=environment)
            ended.callback(process.wait)
            ended.callback(process.kill)
            return process

        chief, worker = start(), start("--worker", "one")
        run = Path("search/tuner/trial_0/run")
        history = run / runfolder.HISTORY
        while not [*run.glob("checkpoint/000001-*.npz")]:
            assert chief.poll() is None
            assert worker.poll() is None
            time.sleep(0.02)
        worker.kill()
        worker.wait()
        first = runfolder.read_lines(history)[0]
        again = [start("--worker", name) for name in ("one", "late")]
        assert chief.wait(timeout=600) == 0
        assert [process.wait(timeout=60) for process in again] == [0, 0]
    rows = read_rows(Path("search"))
    assert [row.status for row in rows] == ["COMPLETED", "COMPLETED"]
    assert runfolder.read_lines(history)[0] == first  # its epoch was not run again
    assert Path("search/report/trials.csv").exists()
