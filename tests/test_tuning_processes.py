"""Chief, workers and their supervisor, as real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from conftest import ROOT

from keras_resnet import files
from keras_resnet.cli import main
from keras_resnet.errors import UserError
from keras_resnet.run import HISTORY
from tuning import processes
from tuning.supervisor import supervise
from tuning.trials import read_trials


def failure_of(code: str) -> str:
    """What a process says that has to end by a mistake."""
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert ended.returncode == 1
    return ended.stderr


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
    code = supervise(
        [sys.executable, "-c", STAND_IN],
        workers,
        processes.free_address(),
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


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie that nobody waits for."""
    try:
        return (
            Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_chief_and_workers_too(workplace, number):
    member = (
        "import os, pathlib, time; "
        "pathlib.Path('member').write_text(str(os.getpid())); time.sleep(60)"
    )
    code = (
        "import sys; from tuning.supervisor import supervise; "
        f"supervise([sys.executable, '-c', {member!r}], 1, ('127.0.0.1', 1), print)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        while not Path("member").exists() or not Path("member").read_text():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        wanted = -number if number == signal.SIGKILL else 128 + number
        assert process.wait(timeout=30) == wanted
    finally:
        process.kill()
    member = int(Path("member").read_text())
    end = time.monotonic() + 30
    while is_alive(member):
        assert time.monotonic() < end
        time.sleep(0.05)


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
    address = processes.free_address()
    with pytest.raises(UserError, match=r"127.0.0.1:\d+ did not answer"):
        processes.wait_for_chief(address, seconds=0.3)
    # One whose chief goes ends by itself, though it is deep in a call.
    code = (
        "import time; from tuning import processes\n"
        f"with processes.watching_chief({address!r}, seconds=0.5): time.sleep(60)"
    )
    assert "has not answered" in failure_of(code)


@pytest.mark.parametrize(
    "text",
    ["", "here", "here:", "here:0", "here:70000", ":80", "a..b:80", f"{'a' * 64}:80",
     ".a:80", f"{'a.' * 130}a:80", "h:99999", "h:٨٠", "ä:80", "a b:80"],
)  # fmt: skip
def test_a_wrong_address_is_one_line(text):
    with pytest.raises(UserError, match="HOST:PORT"):
        processes.parse_address(text)


def test_an_address_in_the_environment_is_checked_too(monkeypatch):
    for name, value in processes.variables(("here", 99_999), "chief").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="'here:99999' is not HOST:PORT"):
        processes.own_address()


def test_an_address_that_can_not_be_listened_on_is_one_line():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for address in (other.getsockname(), ("no-such-host.invalid", 8500)):
            with pytest.raises(UserError, match="chief: can't listen on"):
                processes.check_address(address)
    processes.check_address(("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workers", "2"], "need --folder"),
        (["--workers", "2", "--folder", "f", "--chief", "a:1"], "with --chief"),
        (["--worker", "w", "--folder", "f"], "needs --chief"),
        (["--worker", "chief2", "--chief", "a:1", "--folder", "f"], "without 'chief'"),
        (["--worker", "a/b", "--chief", "a:1", "--folder", "f"], "is no name"),
        (["--chief", "nowhere", "--folder", "f"], "HOST:PORT"),
        (["--chief", "a:1"], "need --folder"),
    ],
)
def test_conflicting_flags_are_one_line(arguments, message, workplace):
    result = CliRunner().invoke(main, ["tune", *arguments])
    assert result.exit_code == 2
    assert message in result.output


def called(script: list[str], stubs: dict[str, str], **variables: str) -> list[str]:
    """What a script of the examples calls `keras-resnet` with, in a place of stubs."""
    stubs = stubs | {"keras-resnet": 'echo "$@" >> calls'}
    for name, text in stubs.items():
        Path(name).write_text(f"#!/bin/bash\n{text}\n")
        Path(name).chmod(0o755)
    places = f"{Path.cwd()}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(script, env=os.environ | variables | {"PATH": places}, check=True)
    return Path("calls").read_text().splitlines()


def options_of(call: str) -> dict[str, object]:
    """Of a call of `tune`; an option that it does not have is an error."""
    command, *arguments = call.split()
    return main.commands[command].make_context(command, arguments).params


def test_the_file_for_slurm_starts_a_chief_and_workers(workplace):
    stubs = {
        "scontrol": "echo node-1; echo node-2",
        "srun": 'shift; for i in 0 1 2; do SLURM_PROCID=$i "$@" || exit 1; done',
    }
    script = ["bash", str(ROOT / "docs/examples/tune.slurm")]
    calls = called(script, stubs, SLURM_JOB_NODELIST="node-[1-2]")
    options = [options_of(call) for call in calls]
    assert [o["worker"] for o in options] == [None, "worker-1", "worker-2"]
    assert {o["chief"] for o in options} == {"node-1:8500"}
    assert len({o["folder"] for o in options}) == 1


def test_the_file_for_kubernetes_starts_a_chief_and_workers(workplace):
    text = (ROOT / "docs/examples/tune.yaml").read_text()
    parts = {(p["kind"], p["metadata"]["name"]): p for p in yaml.safe_load_all(text)}
    jobs = {
        name: parts["Job", name]["spec"]["template"]
        for name in ("tune-chief", "tune-worker")
    }
    chief, worker = (job["spec"]["containers"][0] for job in jobs.values())
    program, *arguments = chief["args"]
    assert program == "keras-resnet"
    own = options_of(" ".join(arguments))
    script = [*worker["command"], *worker["args"]]
    (call,) = called(script, {}, JOB_COMPLETION_INDEX="3")
    its = options_of(call)
    port = parts["Service", "tune-chief"]["spec"]["ports"][0]["port"]
    assert own["chief"] == f"0.0.0.0:{port}"
    assert (its["chief"], its["worker"]) == (f"tune-chief:{port}", "worker-3")
    same = set(own) - {"chief", "worker"}
    assert all(own[name] == its[name] for name in same)
    labels = jobs["tune-chief"]["metadata"]["labels"]
    assert parts["Service", "tune-chief"]["spec"]["selector"] == labels
    policy = parts["NetworkPolicy", "tune-chief"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": port}]
    (source,) = rule["from"]
    assert (
        source["podSelector"]["matchLabels"]
        == jobs["tune-worker"]["metadata"]["labels"]
    )


def test_a_chief_does_not_wait_for_ever(workplace):
    code = (
        "import time; from pathlib import Path; from tuning import processes\n"
        "processes.ALONE = 0.5\n"
        "heartbeats = processes.Heartbeats(Path())\n"
        "with processes.watching_workers(heartbeats, lambda *_: [], print):\n"
        "    while True: time.sleep(1)"
    )
    assert "no heartbeat of any worker for 0 s; the same command" in failure_of(code)


def test_a_heartbeat_is_seen_once(workplace):
    worker, chief = processes.Heartbeats(workplace), processes.Heartbeats(workplace)
    assert chief.new() == set()
    worker.beat("one")
    assert chief.new() == {"one"}
    assert chief.new() == set()


# The command line with a short lease.
SHORT = """
from keras_resnet.cli import main
from keras_resnet.errors import UserError
from keras_resnet.run import HISTORY
from tuning import processes
processes.LEASE = 8.0
main(prog_name="keras-resnet")
"""


@pytest.mark.slow
def test_another_worker_gets_the_trial_of_one_that_was_killed(tiny_spec, workplace):
    """It comes late, and the killed one never again."""
    Path("spec.json").write_text(tiny_spec.to_json())
    Path("space.json").write_text('{"name": "two", "units": [1, 2]}')
    host, port = processes.free_address()
    command = [
        sys.executable, "-c", SHORT, "tune", "--space", "space.json",
        "--spec", "spec.json", "--data", "digits", "--epochs", "3", "--tuner", "grid",
        "--trials", "2", "--no-track", "--strategy", "one", "--folder", "search",
        "--chief", f"{host}:{port}",
    ]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with contextlib.ExitStack() as ended:

        def start(*options, **pipes):
            process = subprocess.Popen([*command, *options], env=environment, **pipes)
            ended.callback(process.wait)
            ended.callback(process.kill)
            return process

        chief = start(stdout=subprocess.PIPE, text=True)
        worker = start("--worker", "one")
        run = Path("search/tuner/trial_0/run")
        history = run / HISTORY
        while not [*run.glob("checkpoint/000001-*.npz")]:
            assert chief.poll() is None
            assert worker.poll() is None
            time.sleep(0.02)
        worker.kill()
        first = files.read_lines(history)[0]
        late = start("--worker", "late")
        told, _ = chief.communicate(timeout=600)
        assert (chief.returncode, late.wait(timeout=60)) == (0, 0)
    assert "one: no heartbeat for 8 s" in told
    trials = read_trials(Path("search"))
    assert [trial.status for trial in trials] == ["COMPLETED", "COMPLETED"]
    assert files.read_lines(history)[0] == first  # its epoch was not run again
    assert Path("search/report/trials.csv").exists()


@pytest.mark.slow
def test_json_is_all_that_is_printed(tiny_spec, workplace):
    """KerasTuner's workers print of their own accord, for one, where blocks differ."""
    Path("spec.json").write_text(tiny_spec.to_json())
    fields = {"block": ["basic", "bottleneck"], "cardinality": [1, 2]}
    Path("space.json").write_text(json.dumps({"name": "both"} | fields))
    done = subprocess.run(
        [
            sys.executable, "-m", "keras_resnet.cli", "tune", "--space", "space.json",
            "--spec", "spec.json", "--data", "digits", "--epochs", "1", "--trials", "2",
            "--no-track", "--folder", "search", "--workers", "1", "--json",
            "--final", "2", "--retrain", "1",
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["trial"] == printed["comparison"]["trial"]
    assert printed["spec"] == files.read_json(Path("search/best.json"))["model"]
    assert printed["spec"]["block"] in ("basic", "bottleneck")
