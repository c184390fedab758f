"""Tracking with real stores, real servers and real kills."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from conftest import ROOT

from keras_resnet.cli import main
from keras_resnet.tracking import MLflowTracker, TrackingError, tracker
from keras_resnet.tracking.address import store_address
from keras_resnet.tracking.buffer import Buffer

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
TELL = """
import os, sys
from pathlib import Path
from keras_resnet.tracking import MLflowTracker
tracker = MLflowTracker()
tracker.start("told", {"a": 1}, Path("runs/told"))
"""


def tell(code: str) -> subprocess.Popen[str]:
    """A process that tells of runs/told."""
    return subprocess.Popen(
        [sys.executable, "-c", TELL + code], env=ENVIRONMENT, text=True
    )


def until(condition: Callable[[], object], seconds: float = 300) -> None:
    """Waits for something that another process does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)


def sync(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["sync", *arguments])
    return done.exit_code, done.stdout if done.exit_code == 0 else done.stderr


def points(client: mlflow.MlflowClient, run_id: str, key: str = "loss") -> list:
    return [(p.step, p.value) for p in client.get_metric_history(run_id, key)]


def losses(count: int) -> list:
    return [(step, 1 / step) for step in range(1, count + 1)]


def log(told: MLflowTracker, steps: range) -> None:
    for step in steps:
        told.log_metrics({"loss": 1 / step}, step)


# The buffer


def test_a_torn_line_costs_itself_alone(tmp_path):
    buffer = Buffer(tmp_path)
    buffer.append("resume", store="x")
    path = tmp_path / "tracking" / "events.jsonl"
    with path.open("a") as file:
        file.write('{"kind": "metr')  # a kill in the middle
    assert [e.kind for e in buffer.events()] == ["resume"]
    buffer.append("end", status="FINISHED")
    events = buffer.events()
    assert [e.kind for e in events] == ["resume", "end"]
    assert events[-1].end == path.stat().st_size
    assert [e.kind for e in buffer.events(events[0].end)] == ["end"]


def test_many_processes_append_to_one_buffer(tmp_path):
    code = f"""
from keras_resnet.tracking.buffer import Buffer
for step in range(300):
    Buffer({str(tmp_path)!r}).append("metrics", metrics={{"x" * 2000: 1.0}}, step=step)
"""
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=ENVIRONMENT)
        for _ in range(3)
    ]
    assert [process.wait(300) for process in processes] == [0, 0, 0]
    steps = [event.fields["step"] for event in Buffer(tmp_path).events()]
    assert sorted(steps) == sorted(3 * list(range(300)))


def test_processes_that_are_killed_lose_no_event(tmp_path):
    """What they said was appended is there, and neither lock stays held."""
    code = f"""
import sys
from keras_resnet.tracking.buffer import Buffer
buffer, first = Buffer({str(tmp_path)!r}), int(sys.argv[1])
lock = buffer.live()
for step in range(first, first + 100_000):
    buffer.append("metrics", metrics={{"x" * 2000: 1.0}}, step=step)
    print(step, flush=True)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(number * 100_000)],
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    told = []
    for count, process in enumerate(processes):
        told += [process.stdout.readline() for _ in range(50 * (count + 1))]
        process.kill()
        told += process.communicate()[0].splitlines(keepends=True)
    told = [int(line) for line in told if line.endswith("\n")]
    assert len(told) > 300
    buffer = Buffer(tmp_path)
    assert not buffer.is_alive()
    buffer.append("end", status="FINISHED")
    steps = [event.fields.get("step") for event in buffer.events()]
    assert len(steps) == len(set(steps))
    assert set(told) <= set(steps)


def test_a_run_is_alive_while_a_process_holds_it(tmp_path):
    buffer = Buffer(tmp_path)
    buffer.append("resume", at=5, store="x")
    held = [buffer.live(), buffer.live()]  # two trackers of one run
    for lock in held:
        assert buffer.is_alive()
        buffer.close_if_abandoned()
        assert [e.kind for e in buffer.events()] == ["resume"]
        lock.release()
    assert not buffer.is_alive()
    for _ in range(2):  # once is enough
        buffer.close_if_abandoned()
        assert [(e.kind, e.time) for e in buffer.events()] == [
            ("resume", 5),
            ("end", 5),
        ]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"register": "a@b@c"}, "register: 'a@b@c' is not NAME or NAME@alias"),
        ({"register": "a@latest"}, "register: 'a@latest': MLflow keeps the aliases"),
        ({"register": "a@v2"}, "register: 'a@v2': MLflow keeps the aliases"),
        ({"register": "a@Latest"}, "register: 'a@Latest': MLflow keeps the aliases"),
        ({"tags": {"a=b": "c"}}, "tags: 'a=b' is not of letters"),
        ({"experiment": ""}, "experiment: it has no name"),
    ],
)
def test_settings_that_cannot_be(settings, complaint):
    with pytest.raises(TrackingError, match=complaint):
        MLflowTracker(**settings)


def test_a_full_disk_ends_the_tracking_and_not_the_run(tmp_path, capsys):
    (tmp_path / "run").write_text("no folder")
    told = MLflowTracker()
    told.start("run", {}, tmp_path / "run")
    log(told, range(1, 4))
    told.finish("FINISHED")
    assert capsys.readouterr().err.count("it is no longer tracked") == 1


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("train", "--tag", "blue"), "tag: 'blue' is not KEY=VALUE"),
        (("sync", "nowhere"), "folder: nowhere doesn't exist"),
        (("sync", "."), "folder: . holds no tracked run"),
    ],
)
def test_mistakes_are_a_line(workplace, arguments, complaint):
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, done.output) == (2, f"Error: {complaint}\n")


# The default store, and the process that sends


@pytest.mark.slow
def test_a_run_its_nested_runs_and_a_kill(workplace, monkeypatch, capsys):
    """One after the other, in one database, which takes seconds to make."""
    search = MLflowTracker("sweep", tags={"team": "x"})
    search.start("search", {"budget": 3}, Path("runs/search"))
    trial = MLflowTracker("sweep", parent=search)
    trial.start("trial", {"lr": 0.1}, Path("runs/search/trial-0"))
    assert trial._writer is None  # the search's process sends it
    log(trial, range(1, 4))
    trial.log_metrics({"loss": 9.0, "nan": float("nan")}, 3)  # a loss of 3 is there
    trial.finish("FINISHED")
    search.log_data("digits", "f" * 64, {"source": "digits"}, {"counts": {"train": 9}})
    search.log_metrics({"best": 1.0}, 1)
    search.log_metrics({"a|b": 1.0}, 1)  # a name that MLflow doesn't take
    search.log_metrics({"best": 2.0}, 2)
    search.finish("FINISHED")
    assert "refused metrics: Invalid value" in capsys.readouterr().err
    store = f"sqlite:///{workplace}/mlflow.db"  # MLflow remembers relative ones
    client = mlflow.MlflowClient(store)
    above, below = (client.get_run(run.run_id) for run in (search, trial))
    assert above.info.status == below.info.status == "FINISHED"
    assert above.data.tags["team"] == "x"
    assert below.data.tags["mlflow.parentRunId"] == search.run_id
    assert below.data.params == {"lr": "0.1"}
    assert points(client, trial.run_id) == losses(3)
    assert points(client, search.run_id, "best") == [(1, 1.0), (2, 2.0)]
    events = Buffer("runs/search").events()
    assert above.info.start_time == events[0].time
    assert above.info.end_time == events[-1].time
    data = above.inputs.dataset_inputs[0].dataset
    assert (data.name, data.digest) == ("digits", "f" * 36)
    assert json.loads(data.profile) == {"counts": {"train": 9}}
    assert mlflow.data.get_source(above.inputs.dataset_inputs[0]).to_dict() == {
        "tags": {"source": "digits"}
    }

    # A process that dies is closed as KILLED by the one that sends ...
    code = """
for step in range(1, 4):
    tracker.log_metrics({"loss": 1 / step}, step)
os.kill(os.getpid(), 9)
"""
    assert tell(code).wait(300) == -9
    told = Buffer("runs/told")
    until(lambda: told.events()[-1].kind == "end" and not told.unsent(store))
    run_id = told.sent(store).run_id
    assert client.get_run(run_id).info.status == "KILLED"
    # ... and goes on as the same run, which has each point once.
    again = MLflowTracker()
    again.start("told", {"a": 1, "b": 2}, Path("runs/told"))
    until(lambda: client.get_run(run_id).info.status == "RUNNING")
    log(again, range(2, 6))
    again.finish("FINISHED")
    assert again.run_id == run_id
    logged = client.get_run(run_id)
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {"a": "1", "b": "2"}
    assert points(client, run_id) == losses(5)

    # Senders that know nothing of each other, nor of what was sent, double nothing.
    (told.folder / "sent.json").unlink()
    command = [sys.executable, "-m", "keras_resnet.cli", "sync", "runs/told"]
    both = [subprocess.Popen(command, env=ENVIRONMENT) for _ in range(2)]
    assert [process.wait(300) for process in both] == [0, 0]
    assert told.sent(store).run_id == run_id
    assert points(client, run_id) == losses(5)
    # Another store gets all of it.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    other = f"sqlite:///{workplace}/other.db"
    assert sync() == (
        0,
        f"runs/search: sent to {other}\nruns/search/trial-0: sent to {other}\n"
        f"runs/told: sent to {other}\n",
    )
    client = mlflow.MlflowClient(other)
    assert told.sent(store).run_id == run_id != told.sent(other).run_id
    assert points(client, told.sent(other).run_id) == losses(5)
    below = client.get_run(trial.buffer.sent(other).run_id)
    assert below.data.tags["mlflow.parentRunId"] == search.buffer.sent(other).run_id


# Servers


class Server:
    """A real `mlflow server` on a port that stays its own."""

    def __init__(self, place: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.place = place
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{self.place}/server.db"]
        files = ["--artifacts-destination", str(self.place / "artifacts")]
        self.process = subprocess.Popen(
            [*command, *store, *files, "--port", str(self.port)],
            env=os.environ
            | {
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def wait(self) -> None:
        until(self.answers)

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=5) as reply:
                return bool(reply.status == 200)
        except OSError:
            return False

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, 9)
            self.process.wait()
            self.process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    server.begin()
    yield server
    server.kill()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(tracker, "FAILING", 1)


@pytest.mark.slow
def test_a_server_that_is_absent_killed_and_restarted(
    workplace, server, monkeypatch, capsys, impatient
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens
    absent = MLflowTracker()
    absent.start("absent", {"a": 1}, Path("runs/absent"))
    log(absent, range(1, 6))
    absent.finish("FINISHED")
    assert absent.run_id is None
    assert "is kept in runs/absent; send it later: keras-resnet sync runs/absent" in (
        capsys.readouterr().err
    )
    code, output = sync()
    assert code == 1
    assert "runs/absent: MLflow at http://127.0.0.1:9 failed: " in output

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    server.wait()
    client = mlflow.MlflowClient(server.uri)
    killed = MLflowTracker()
    killed.start("killed", {"a": 1}, Path("runs/killed"))
    log(killed, range(1, 6))
    until(lambda: killed.run_id and len(points(client, killed.run_id)) == 5)
    server.kill()
    log(killed, range(6, 11))
    Path("runs/killed/notes.txt").write_text("kept")
    killed.log_files([Path("runs/killed/notes.txt")])
    killed.finish("FINISHED")
    assert "send it later" in capsys.readouterr().err

    server.begin()
    server.wait()
    code, output = sync()
    assert (code, output.count(f"sent to {server.uri}")) == (0, 2)
    for run, count in (("absent", 5), ("killed", 10)):
        told = Buffer(f"runs/{run}")
        logged = client.get_run(told.sent(server.uri).run_id)
        assert logged.info.status == "FINISHED"
        assert logged.info.start_time == told.events()[0].time
        assert logged.info.end_time == told.events()[-1].time
        assert points(client, logged.info.run_id) == losses(count)
        times = {e.time for e in told.events() if e.kind == "metrics"}
        history = client.get_metric_history(logged.info.run_id, "loss")
        assert {point.timestamp for point in history} <= times
    assert [f.path for f in client.list_artifacts(killed.run_id)] == ["notes.txt"]
    assert sync() == (0, "runs/absent: nothing to send\nruns/killed: nothing to send\n")


@pytest.mark.slow
def test_a_server_that_is_slow(workplace, server, monkeypatch, capsys):
    """Half a second for each answer: the end of the run waits for it."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    sample = np.ones((3, 2), "float32")
    server.wait()
    with socket.create_server(("127.0.0.1", 0)) as front:
        port = front.getsockname()[1]
        threading.Thread(target=pass_on, args=(front, server.port), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        told = MLflowTracker(register="tiny@best")
        told.start("slow", {}, Path("runs/slow"))
        log(told, range(1, 6))
        told.log_metrics({"test_accuracy": 0.9}, 5)
        told.log_model(model, sample, {"output": "logits"}, ["test_accuracy"])
        told.finish("FINISHED")
    client, run_id = mlflow.MlflowClient(server.uri), told.run_id
    assert client.get_run(run_id).info.status == "FINISHED"
    assert points(client, run_id) == losses(5)
    assert points(client, run_id, "test_accuracy") == [(5, 0.9)]
    place = [client.get_run(run_id).info.experiment_id]
    for bound, count in (("> 0.8", 1), ("> 0.95", 0)):
        good = client.search_logged_models(place, f"metrics.test_accuracy {bound}")
        assert len(good) == count
    assert not capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    loaded = mlflow.pyfunc.load_model("models:/tiny@best")
    assert loaded.metadata.metadata == {"output": "logits"}
    assert loaded.metadata.run_id == run_id
    np.testing.assert_array_equal(loaded.input_example, sample)
    np.testing.assert_allclose(
        loaded.predict(sample), model.predict(sample, verbose=0), rtol=1e-6
    )
    # Sent once more, from the start: neither run, point, model nor version is doubled.
    (told.buffer.folder / "sent.json").unlink()
    assert sync("runs/slow")[0] == 0
    assert points(client, run_id) == losses(5)
    assert len(client.get_run(run_id).outputs.model_outputs) == 1
    assert len(client.search_model_versions("name = 'tiny'")) == 1


def pass_on(front: socket.socket, port: int) -> None:
    """A slow way to a server."""

    def pump(source: socket.socket, target: socket.socket, delay: float) -> None:
        try:
            while piece := source.recv(65536):
                time.sleep(delay)
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    while True:
        try:
            near, _ = front.accept()
        except OSError:
            return
        far = socket.create_connection(("127.0.0.1", port))
        for ends in ((near, far, 0.0), (far, near, 0.5)):
            threading.Thread(target=pump, args=ends, daemon=True).start()


@pytest.mark.slow
def test_a_server_that_never_answers(workplace, monkeypatch, capsys, impatient):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it accepts, and is silent
        uri = f"http://127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        told = MLflowTracker()
        told.start("mute", {}, Path("runs/mute"))
        log(told, range(1, 6))
        told.finish("FINISHED")
        assert f"MLflow at {uri} doesn't answer" in capsys.readouterr().err
        code, output = sync("runs/mute")
        assert code == 1
        assert f"runs/mute: MLflow at {uri} failed: " in output
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    kinds = [event.kind for event in Buffer("runs/mute").events()]
    assert kinds == ["start", "params", "tags", *5 * ["metrics"], "end"]


def test_a_deleted_experiment_says_how_it_is_restored(workplace, monkeypatch, capsys):
    import mlflow

    monkeypatch.setattr(tracker, "FAILING", 0.1)
    client = mlflow.MlflowClient(store_address())
    client.delete_experiment(client.create_experiment("gone"))
    logged = MLflowTracker("gone")
    logged.start("run", {}, workplace / "run")
    logged.finish("FINISHED")
    said = " ".join(capsys.readouterr().err.split())
    assert "can't take the run (experiment 'gone' is deleted there; restore it" in said
    assert "keras-resnet sync" in said
    result = CliRunner().invoke(main, ["sync", "run"])
    assert result.exit_code == 1
    assert "restore it by mlflow experiments restore --experiment-id" in result.output
