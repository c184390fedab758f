"""Devices and workers, in real processes.

Two logical CPUs stand for two GPUs, two processes on loopback for two machines. No GPU
was available: memory growth, pinning and precision are tested as far as they are
decisions.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT, python

from keras_resnet import cifar_resnet, files
from keras_resnet.run import HISTORY
from keras_resnet.training import evaluate, get_recipe, launch
from keras_resnet.training.devices import cluster, distribution
from keras_resnet.training.devices.cluster import DistributionError, read_cluster

JOB = ROOT / "tests" / "distribution_job.py"
TWO = {"worker": ["a:1", "b:1"]}


def config(jobs=TWO, task=("worker", 0)):
    kind, index = task
    text = json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})
    return {"TF_CONFIG": text}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{'cluster'", "not JSON"),
        ("[1]", "no lists of host:port"),
        ('{"cluster": {"worker": "a:1"}}', "no lists of host:port"),
        ('{"cluster": {"worker": ["a"]}}', "no lists of host:port"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "task null is not in the cluster"),
        (config(task=("worker", 2))["TF_CONFIG"], "which has worker 0 to 1"),
        (config(task=("chief", 0))["TF_CONFIG"], "which has worker 0 to 1"),
        (config(task=("worker", "0"))["TF_CONFIG"], "is not in the cluster"),
        (config({"worker": ["a:1", "a:1"]})["TF_CONFIG"], "given to two tasks"),
        (config({"chief": ["a:1", "b:1"]})["TF_CONFIG"], "more than one chief"),
        (config({"ps": ["a:1"], **TWO})["TF_CONFIG"], "no parameter servers"),
    ],
)
def test_what_is_wrong_with_tf_config(text, message):
    with pytest.raises(DistributionError, match=message) as error:
        read_cluster({"TF_CONFIG": text})
    assert "\n" not in str(error.value)


def test_a_cluster_is_read():
    assert read_cluster({}) is None
    assert read_cluster({"TF_CONFIG": "{}"}) is None
    chief = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    found = read_cluster(config(chief, ("worker", 1)))
    assert (found.size, found.leader, found.job, found.number) == (
        3, "chief", "worker", 1,
    )  # fmt: skip
    assert read_cluster(config()).leader == "worker"


def test_one_device_and_wrong_names(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.make_strategy("one") is None
    assert distribution.make_strategy("auto") is None
    assert distribution.replicas_of(None) == 1
    assert distribution.is_chief(None)
    with distribution.scope(None), distribution.cooperating(None):
        distribution.check_strategy(None, steps_per_execution=8)
    with pytest.raises(DistributionError, match="'tpu' is not one of 'auto', 'one'"):
        distribution.make_strategy("tpu")
    with pytest.raises(DistributionError, match="launch 2 COMMAND"):
        distribution.make_strategy("multiworker")
    with pytest.raises(DistributionError, match="several devices; TensorFlow sees"):
        distribution.make_strategy("mirrored")
    monkeypatch.setenv("TF_CONFIG", config({"worker": ["a:1"]})["TF_CONFIG"])
    assert distribution.make_strategy("auto") is None  # alone in its cluster


def test_shares_of_a_machine():
    assert cluster.share("abcd", 1, 2) == ["b", "d"]
    assert cluster.share([], 1, 2) == []
    with pytest.raises(DistributionError, match="2 processes can't share 3 GPUs"):
        cluster.share("abc", 0, 2)


@pytest.mark.parametrize(
    ("capabilities", "policy"),
    [
        ([], "float32"),
        ([(6, 1)], "float32"),
        ([(7, 0)], "mixed_float16"),
        ([(8, 0)], "mixed_bfloat16"),
        ([(9, 0), (7, 5)], "mixed_float16"),
    ],
)
def test_precision_follows_the_tensor_cores(capabilities, policy):
    assert distribution.precision_of(capabilities) == policy


def test_precision_here():
    if not distribution.precision().startswith("mixed"):
        assert distribution.precision() == "float32"


def test_a_port_in_use_is_refused():
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(DistributionError, match="in use"):
            cluster.check_port(address)
    cluster.check_port(address)
    with pytest.raises(DistributionError, match="can't listen on a:70000"):
        cluster.check_port("a:70000")


# Two replicas in one process.


@pytest.fixture(scope="module")
def mirrored():
    """What distribution_job.py found with two logical CPUs."""
    done = subprocess.run(
        [sys.executable, str(JOB), "mirrored"],
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["outside, grouped", "inside, recomputed", "averaged"])
def test_two_devices_train_as_one(mirrored, case):
    """With synchronized batch norm, at the same global batch."""
    assert mirrored["replicas"] == 2
    found = mirrored[case]
    assert found["apart"] < 1e-5
    for name, values in found["one"].items():
        np.testing.assert_allclose(found["two"][name], values, rtol=1e-5)


@pytest.mark.slow
def test_batch_wise_depth_trains_on_two_devices(mirrored):
    first, last = mirrored["batch-wise depth"]
    assert last < first


@pytest.mark.slow
def test_no_replica_goes_without_an_image(mirrored):
    """Metrics of an evaluation stay those of one device; no batch is lost."""
    found = mirrored["short batches"]
    assert found["steps"] == 3
    assert found["batches"] == [16, 15, 2]
    np.testing.assert_allclose(found["two"], found["one"], rtol=1e-6)
    assert np.isfinite(found["history"]["loss"]).all()


@pytest.mark.slow
@pytest.mark.skipif(os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0", reason="oneDNN is off")
def test_onednn_still_fails_on_empty_batches(mirrored):
    """If not, `replicas.for_replicas` has one reason less."""
    assert mirrored["empty batch"] == 4  # and not 8


@pytest.mark.slow
def test_what_is_validated_is_what_is_saved(mirrored):
    found = mirrored["own statistics"]
    assert found["validated"] == pytest.approx(found["saved"], rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        ("central", "CentralStorageStrategy: Keras 3's fit on TensorFlow supports"),
        ("steps", "Keras 3 runs one step at a time under tf.distribute"),
        ("clipping", "Keras clips each replica's part of the gradient, not the sum"),
        ("too few", "2 devices need batches of at least 3 images"),
        ("depth", "use survival_mode 'sample'"),
        ("late", "must be made before TensorFlow is used"),
    ],
)
def test_what_keras_cannot_do_is_refused(mirrored, attempt, message):
    assert message in mirrored["refused"][attempt]
    assert "\n" not in mirrored["refused"][attempt]


# Two workers.


@contextlib.contextmanager
def workers(mode, folder, *, ranks=(0, 1), wait=60):
    """Processes of one training, killed at the end; and their addresses."""
    environments = launch.environments(2)
    processes = [
        subprocess.Popen(
            [sys.executable, str(JOB), "worker", mode, str(folder)],
            # Of TensorFlow's log, which has pages on a lost worker, the fatal only.
            env={
                **os.environ,
                **environments[rank],
                "WAIT": str(wait),
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]
    try:
        config = json.loads(environments[0]["TF_CONFIG"])
        yield processes, config["cluster"]["worker"]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def ended(process, timeout=200):
    """Exit code and what was written to stderr, but for TensorFlow's start."""
    _, errors = process.communicate(timeout=timeout)
    lines = [line for line in errors.splitlines() if not line.startswith(TF_LINES)]
    return process.returncode, "\n".join(lines)


# While it starts, TensorFlow writes lines that no setting silences.
TF_LINES = ("WARNING: All log messages", "I0000", "E0000", "W0000")


@pytest.mark.slow
def test_two_workers_train_as_one(tmp_path):
    """fit, evaluate and save; only the chief has a folder."""
    with workers("plain", tmp_path / "run") as (processes, _):
        for process in processes:
            assert ended(process) == (0, "")
    first, second = (
        json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in (0, 1)
    )
    assert first == second
    assert first["history"].keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    # The same on one device.
    alone = tmp_path / "alone" / "run"
    environment = {**os.environ, "WAIT": "9", "LOCAL_RANK": "9"}
    environment.pop("TF_CONFIG", None)
    alone.parent.mkdir()
    subprocess.run(
        [sys.executable, str(JOB), "worker", "plain", str(alone)],
        env=environment,
        check=True,
        timeout=200,
        capture_output=True,
    )
    one = json.loads((alone.parent / "rank-9.json").read_text())
    np.testing.assert_allclose(first["metrics"], one["metrics"], rtol=1e-4)
    for name, values in one["history"].items():
        np.testing.assert_allclose(first["history"][name], values, rtol=1e-4)
    assert (tmp_path / "saved.keras").is_file()
    loaded = python(
        "import keras, keras_resnet, numpy as np\n"
        f"model = keras.models.load_model({str(tmp_path / 'saved.keras')!r})\n"
        "print(float(np.abs(model.get_weights()[0]).sum()))"
    )
    assert float(loaded) == pytest.approx(first["weight"], rel=1e-6)


@pytest.mark.slow
def test_recomputation_on_two_workers(tmp_path):
    with workers("recomputed", tmp_path / "run") as (processes, _):
        for process in processes:
            assert ended(process) == (0, "")


@pytest.mark.slow
def test_a_killed_worker_ends_the_other_which_can_be_resumed(tmp_path):
    folder = tmp_path / "run"
    with workers("slow", folder) as (processes, _):
        history = folder / HISTORY
        deadline = time.monotonic() + 200
        while not history.exists() or len(history.read_text().splitlines()) < 2:
            assert time.monotonic() < deadline
            assert processes[0].poll() is None, processes[0].stderr.read()
            time.sleep(0.1)
        processes[1].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        code, errors = ended(processes[0], timeout=60)
        # Stated in docs/devices.md.
        assert time.monotonic() - killed < 60
    assert code == 1
    assert errors.startswith("Error: training: worker 1 was lost")
    assert "\n" not in errors
    before = files.read_lines(history)
    with workers("plain", folder) as (processes, _):
        for process in processes:
            assert ended(process) == (0, "")
    rows = files.read_lines(history)
    assert rows[: len(before)] == before
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    ranks = [json.loads((tmp_path / f"rank-{r}.json").read_text()) for r in (0, 1)]
    assert ranks[0] == ranks[1]  # the other has no folder, and went on from there too
    assert len(ranks[1]["history"]["loss"]) == 6 - len(before)


@pytest.mark.slow
def test_a_failure_of_one_worker_ends_the_other_with_its_reason(tmp_path):
    with workers("failing", tmp_path / "run") as (processes, _):
        chief, other = map(ended, processes)
    reason = "folder: can't write to runs: No space left on device"
    assert chief == (1, f"Error: {reason}")
    assert other == (1, f"Error: training: worker 0 stopped: {reason}")


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_worker_that_does_not_come_is_waited_for_a_stated_time(tmp_path, rank):
    run = tmp_path / "run"
    with workers("plain", run, ranks=[rank], wait=3) as ([process], addresses):
        code, errors = ended(process, timeout=120)
    missing = 1 - rank
    assert code == 1
    assert errors == (
        f"Error: strategy: worker {missing} ({addresses[missing]}) did not appear "
        "within 3 s; start all 2 of TF_CONFIG's tasks"
    )


@pytest.mark.slow
def test_keras_still_needs_its_correction(tmp_path):
    """Without it, `fit` fails on two workers as Keras' issue 20585 says."""
    with workers("uncorrected", tmp_path / "run") as (processes, _):
        code, errors = ended(processes[0])
    assert code != 0, (
        "Keras' fit works on several workers: remove training/devices/multiworker.py"
    )
    assert "PerReplica" in errors


def test_another_keras_is_refused(monkeypatch):
    import keras

    from keras_resnet.training.devices import multiworker

    monkeypatch.setattr(keras, "__version__", "3.99.0")
    with pytest.raises(DistributionError, match=r"not tested with 3\.99\.0"):
        multiworker.correct_fit()


# The launcher.


def launched(processes, code, timeout=60):
    return subprocess.run(
        [sys.executable, "-m", "keras_resnet.training.launch", str(processes), *code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_launch_sets_the_environment_and_shows_the_first_ones_output():
    show = "import os; print(os.environ['TF_CONFIG'], os.environ['LOCAL_RANK'])"
    done = launched(2, [sys.executable, "-c", show])
    assert done.returncode == 0
    [line] = done.stdout.splitlines()
    text, rank = line.rsplit(" ", 1)
    found = read_cluster({"TF_CONFIG": text})
    assert (found.size, found.number, rank) == (2, 0, "0")


@pytest.mark.slow
def test_one_command_trains_two_workers(tmp_path):
    """As docs/devices.md: the first one writes a run like any other."""
    recipe = get_recipe("digits").replace(
        name="tiny",
        model=cifar_resnet(8, name="tiny", stem_width=4, widths=(4, 8, 8)),
        epochs=2,
        warmup_epochs=0,
        batch_size=256,
    )
    (tmp_path / "recipe.json").write_text(recipe.to_json())
    command = [
        sys.executable, "-m", "keras_resnet.cli", "train", "--strategy", "multiworker",
        "--recipe", str(tmp_path / "recipe.json"), "--data", "digits",
        "--folder", str(tmp_path / "run"), "--no-track",
    ]  # fmt: skip
    done = launched(2, command, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test accuracy") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"recipe.json", "run"}
    assert files.read_json(tmp_path / "run" / "environment.json")["replicas"] == 2
    assert (tmp_path / "run" / "export" / "1" / "saved_model.pb").is_file()
    metrics = evaluate(tmp_path / "run")
    assert metrics["images"] == 360
    assert f"test accuracy {metrics['accuracy']:.2%}" in done.stdout


def test_launch_ends_with_the_one_that_failed():
    fail = "import os, sys, time; sys.exit(7 * int(os.environ['LOCAL_RANK']))"
    assert launched(2, [sys.executable, "-c", fail]).returncode == 7
    done = launched(2, ["no-such-command"])
    assert done.returncode == 127
    assert done.stderr.strip() == "no-such-command: No such file or directory"
    assert launched(0, ["true"]).returncode == 2


def test_launch_ends_those_that_hang(monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.5)
    hang = (
        "import os, time; rank = int(os.environ['LOCAL_RANK'])\n"
        "time.sleep(60 * rank); os.abort()"
    )
    started = time.monotonic()
    assert launch.launch(2, [sys.executable, "-c", hang]) == 128 + signal.SIGABRT
    assert time.monotonic() - started < 30
