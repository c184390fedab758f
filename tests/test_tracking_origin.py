"""Run folders from elsewhere: what they say is not enough to send anything."""

from __future__ import annotations

import json
import os
import stat

import mlflow
import pytest
from click.testing import CliRunner

from keras_resnet.cli import main
from keras_resnet.limits import hide_passwords
from keras_resnet.tracking import MLflowTracker, origin
from keras_resnet.tracking.buffer import Buffer, Sent

RUN = "0" * 32


def sync(*arguments):
    done = CliRunner().invoke(main, ["sync", *map(str, arguments)])
    return done.exit_code, done.output


def foreign(folder, store, *events, run=RUN, parent=None):
    """A run folder as somebody else may have made it."""
    start = {
        "kind": "start",
        "store": store,
        "run": run,
        "name": folder.name,
        "experiment": "theirs",
        "parent_folder": parent,
        "parent_id": None,
    }
    buffer = Buffer(folder)
    for event in (start, *events, {"kind": "end", "status": "FINISHED"}):
        fields = {name: value for name, value in event.items() if name != "kind"}
        buffer.append(event["kind"], at=1000, **fields)
    return buffer


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A database, which takes seconds to make."""
    store = f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"
    mlflow.MlflowClient(store).search_experiments()
    return store


@pytest.fixture
def private(workplace):
    path = workplace / "private" / "id_rsa"
    path.parent.mkdir()
    path.write_text("secret")
    return path


@pytest.mark.slow
def test_a_store_that_only_the_folder_names_is_refused(workplace, store):
    """With its address, and the line that sends it."""
    foreign(workplace / "runs/theirs", "http://collector.example:5000")
    own = "0" * 31 + "1"
    foreign(workplace / "runs/own", store, run=own)
    origin.remember(own, store)
    code, output = sync()
    assert code == 1
    lines = dict(line.split(": ", 1) for line in output.splitlines() if "runs/" in line)
    assert lines["runs/theirs"] == (
        "it was not trained on this machine, and names the store "
        "http://collector.example:5000; if it is to go there: keras-resnet sync "
        "runs/theirs --tracking-uri http://collector.example:5000"
    )
    assert lines["runs/own"] == f"sent to {store}"
    assert sync("runs/theirs", "--tracking-uri", store) == (
        0,
        f"runs/theirs: sent to {store}\n",
    )


@pytest.mark.slow
def test_only_files_of_the_run_are_sent(workplace, private, store):
    """By no path, link, folder or pipe; and a model is not registered for them."""
    folder = workplace / "runs/theirs"
    (folder / "samples").mkdir(parents=True)
    (folder / "samples/link").symlink_to(private)
    (folder / "link").symlink_to(private)
    (folder / "there").symlink_to(private.parent)
    os.mkfifo(folder / "pipe")
    (folder / "report.json").write_text("{}")
    refused = [
        "../../private/id_rsa", str(private), "../../private", "link", "there",
        "there/id_rsa", "samples", "pipe", "/dev/null",
    ]  # fmt: skip
    files = [{"kind": "file", "path": path} for path in [*refused, "report.json"]]
    buffer = foreign(folder, store, *files, run="2" * 32)
    code, output = sync(folder, "--tracking-uri", store)
    assert code == 0
    assert output.count(" leads out of the run folder, or is no") == len(refused)
    client = mlflow.MlflowClient(store)
    sent = client.list_artifacts(buffer.sent(store).run_id)
    assert [artifact.path for artifact in sent] == ["report.json"]


def test_nested_runs_are_those_inside_or_of_this_machine(workplace):
    theirs, store = workplace / "theirs", "sqlite:///x.db"
    child = {"kind": "child", "folder": "../mine"}
    inside = {"kind": "child", "folder": "nested"}
    foreign(theirs, store, child, inside, parent="../mine")
    foreign(theirs / "nested", store)
    mine = MLflowTracker("mine")
    mine.start("mine", {}, workplace / "mine")
    mine.finish("FINISHED")
    assert [b.run.name for b in Buffer(theirs).family()] == ["theirs", "nested"]
    assert Buffer(theirs).parent() is None
    outside = MLflowTracker("mine", parent=mine)
    outside.start("outside", {}, workplace / "outside")
    outside.finish("FINISHED")
    names = [b.run.resolve().name for b in Buffer(workplace / "mine").family()]
    assert names == ["mine", "outside"]
    assert Buffer(workplace / "outside").parent() is not None


def test_passwords_are_kept_nowhere(workplace, monkeypatch, capsys):
    uri = "http://me:hunter2@localhost:1"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("keras_resnet.tracking.tracker.FAILING", 1)
    run = workplace / "runs/mine"
    tracker = MLflowTracker("mine")
    tracker.start("mine", {"depth": 8}, run)
    tracker.finish("FINISHED")
    told = capsys.readouterr().err
    assert "MLflow at http://me:***@localhost:1 doesn't answer" in told
    code, output = sync(run)
    assert code == 1
    assert "me:***@" in output
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    code, later = sync(run)
    assert code == 1
    assert "its store http://me:***@localhost:1 needs a password" in later
    for path in [*workplace.rglob("*"), *origin._folder().rglob("*")]:
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
            if path.parent.name == "tracking":
                assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert "hunter2" not in output + told + later


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://a:b@host/x", "http://a:***@host/x"),
        ("postgresql://u:p@ss:w@h:5/db failed", "postgresql://u:***@h:5/db failed"),
        ("sqlite:////home/me/mlflow.db", "sqlite:////home/me/mlflow.db"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("http://:token@host", "http://:***@host"),
    ],
)
def test_passwords_are_hidden(text, shown):
    assert hide_passwords(text) == shown


DAMAGES = [
    b"[1]", b'"start"', b"1", b'{"kind": "metrics"}', b'{"kind": ["x"], "time": 1}',
    b'{"kind": "end", "time": "now", "status": "FINISHED"}',
    b'{"kind": "end", "time": 1e400, "status": "FINISHED"}',
    b'{"kind": "metrics", "time": 1, "metrics": {"loss": "low"}, "step": 1}',
    b'{"kind": "metrics", "time": 1, "metrics": {"loss": 1e999}, "step": []}',
    b'{"kind": "unknown", "time": 1}', b"[" * 10**5, b"\xff\xfe",
    b'{"kind": "file", "time": 1, "path": 5}',
]  # fmt: skip


@pytest.mark.parametrize("line", DAMAGES)
def test_what_is_no_event_is_skipped(tmp_path, line):
    buffer = foreign(tmp_path, "x")
    with (tmp_path / "tracking/events.jsonl").open("ab") as file:
        file.write(line + b"\n")
    buffer.append("metrics", metrics={"loss": 1.0}, step=1)
    assert [event.kind for event in buffer.events()] == ["start", "end", "metrics"]


@pytest.mark.parametrize(
    "told",
    [
        [], {"s": []}, {"s": {}}, {"s": {"offset": "5"}}, {"s": 10**30},
        {"s": {"offset": -5, "run_id": 7, "model_id": None, "error": None}},
        {"s": {"offset": 10**9, "run_id": None, "model_id": None, "error": None}},
        {"s": {"offset": 3, "run_id": None, "model_id": None, "error": None}},
    ],
)  # fmt: skip
def test_a_damaged_note_of_what_was_sent_sends_all_again(tmp_path, told):
    buffer = foreign(tmp_path, "s")
    (tmp_path / "tracking/sent.json").write_text(json.dumps(told))
    assert buffer.sent("s") == Sent()
    assert len(buffer.events(buffer.sent("s").offset)) == 2


@pytest.mark.slow
def test_a_run_that_is_damaged_does_not_stop_the_others(workplace, store):
    for name in "abc":
        foreign(workplace / "runs" / name, store, run=name * 32)
    events = workplace / "runs/b/tracking/events.jsonl"
    events.write_bytes(events.read_bytes()[50:])
    code, output = sync("--tracking-uri", store)
    assert code == 1
    assert f"runs/a: sent to {store}" in output
    assert "runs/b: " in output
    assert f"runs/c: sent to {store}" in output


def test_a_sender_that_is_killed_is_started_again(workplace, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    monkeypatch.setattr("keras_resnet.tracking.tracker.FAILING", 1)
    tracker = MLflowTracker("mine")
    tracker.start("mine", {}, workplace / "run")
    first = tracker._writer
    first.kill()
    first.wait()
    tracker.log_metrics({"loss": 1.0}, 1)
    assert tracker._writer.pid != first.pid
    assert tracker._writer.poll() is None
    tracker.finish("FINISHED")
