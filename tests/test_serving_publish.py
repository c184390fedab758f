from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import openvino
import pytest
from click.testing import CliRunner
from images import noise

from keras_resnet import build, serving
from keras_resnet.cli import main
from keras_resnet.errors import ExportWarning
from keras_resnet.serving import server
from keras_resnet.surgery import to_stock
from keras_resnet.tracking import address
from keras_resnet.tracking import registry as logged_models


def run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    return result.exit_code, result.output.strip()


@pytest.mark.slow
def test_an_alias_becomes_a_label_and_goes_back(workplace, tiny_spec):
    import mlflow

    names = [f"class {i}" for i in range(10)]
    models = [build(tiny_spec) for _ in range(2)]
    registry = mlflow.MlflowClient(*[address.store_address()] * 2)
    registry.create_registered_model("net")
    experiment = registry.create_experiment("here")
    for i, model in enumerate(models):
        logged = workplace / f"logged{i}"
        sample = noise(2, (8, 8, 1)).astype("f4")
        logged_models.save(to_stock(model), logged, sample, {"class_names": names})
        run_id = registry.create_run(experiment).info.run_id
        registry.log_metric(run_id, "accuracy", 0.9)
        registry.create_model_version("net", str(logged), run_id)
    folder = workplace / "net"
    images = noise(4, (8, 8, 1))
    for version in (1, 2, 1):
        registry.set_registered_model_alias("net", "champion", str(version))
        code, said = run("publish", folder, "--alias", "champion")
        assert (code, said) == (0, f"champion  {folder / str(version)}")
        assert server.labels_of(folder) == {"champion": version}
    assert server.versions(folder) == [1, 2]
    for version, model in enumerate(models, 1):
        served = serving.load(folder / str(version))
        logits = np.asarray(model(images.astype("f4"), training=False))
        assert (served.predict(images).argmax(-1) == logits.argmax(-1)).all()
        assert served.class_names == tuple(names)
        assert serving.describe(folder / str(version))["metrics"] == {"accuracy": 0.9}
    shutil.rmtree(folder / "1")
    with pytest.warns(ExportWarning, match="the version of champion is gone"):
        server.configure(folder)
    assert server.labels_of(folder) == {}
    assert run("publish", folder, "--alias", "champion", "--version", 2)[0] == 0
    config = (folder / "server" / "models.config").read_text()
    assert 'key: "champion"\n      value: 2' in config
    for arguments, message in (
        (("--alias", "no"), "alias: can't find net@no in MLflow"),
        (("--alias", "a", "--version", 9), "has no 9 for 'a', only 2"),
        (("--alias", "a b"), "is not a word"),
    ):
        code, said = run("publish", folder, *arguments)
        assert code == 2
        assert message in said
        assert len(said.splitlines()) == 1


def test_an_alias_is_never_of_another_model(workplace, tiny_spec):
    """A folder's version 1 and the registry's version 1 are two models."""
    import mlflow

    names = [f"class {i}" for i in range(10)]
    mine, other = (build(tiny_spec) for _ in range(2))
    folder = workplace / "net"
    serving.export(other, folder, check=False)
    registry = mlflow.MlflowClient(*[address.store_address()] * 2)
    registry.create_registered_model("net")
    sample = noise(2, (8, 8, 1)).astype("f4")
    for i, model in enumerate((mine, other), 1):
        logged = workplace / f"logged{i}"
        logged_models.save(to_stock(model), logged, sample, {"class_names": names})
        registry.create_model_version("net", str(logged))
        registry.set_registered_model_alias("net", f"model{i}", str(i))
    assert run("publish", folder, "--alias", "model1") == (
        0,
        f"model1  {folder / '2'}",
    )
    logits = np.asarray(mine(sample, training=False))
    served = serving.load(folder / "2")
    assert (served.predict(sample.astype("u1")).argmax(-1) == logits.argmax(-1)).all()
    # Version 2 of the registry is what was exported as 1.
    assert run("publish", folder, "--alias", "model2")[1] == f"model2  {folder / '1'}"
    assert run("publish", folder, "--alias", "model1")[1] == f"model1  {folder / '2'}"
    assert server.versions(folder) == [1, 2]
    # A label can be set while another's version is gone, which is one line.
    shutil.rmtree(folder / "1")
    code, said = run("publish", folder, "--alias", "model1")
    assert (code, said.splitlines()) == (
        0,
        [
            f"warning: {folder}: the version of model2 is gone; it has none now",
            f"model1  {folder / '2'}",
        ],
    )
    assert server.labels_of(folder) == {"model1": 2}


@pytest.mark.slow
def test_mlflow_serves_the_same(workplace, tiny_spec):
    """`mlflow models serve`, the real process, on the logged model."""
    model = build(tiny_spec)
    images = noise(3, (8, 8, 1))
    logged = workplace / "logged"
    logged_models.save(to_stock(model), logged, images.astype("f4"), {})
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    scripts = Path(sys.executable).parent
    server = subprocess.Popen(
        [
            scripts / "mlflow", "models", "serve", "-m", logged,
            "--env-manager", "local", "-p", str(port),
        ],
        env={
            **os.environ,
            "PATH": f"{scripts}:{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": images.tolist()}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        for _ in range(600):
            assert server.poll() is None
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    told = np.array(json.load(answer)["predictions"])
                break
            except urllib.error.URLError:
                time.sleep(1)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    exported = serving.load(serving.export(model, workplace / "net", check=False))
    exponents = np.exp(told - told.max(axis=-1, keepdims=True))
    np.testing.assert_allclose(
        exponents / exponents.sum(axis=-1, keepdims=True),
        exported.predict(images),
        rtol=1e-4,
        atol=1e-6,
    )


@pytest.mark.slow
def test_openvino_reads_the_export(tiny_spec, tmp_path):
    model = build(tiny_spec)
    path = serving.export(model, tmp_path / "net", check=False)
    images = noise(3, (8, 8, 1))
    core = openvino.Core()
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(path), "CPU", hint)
    found = compiled(images)
    probabilities = found[compiled.output("probabilities")]
    expected = serving.load(path).predict(images)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)


def test_export_commands(workplace):
    """An image that can't be read is no mistake in the command: the others go on."""
    for command, expected, message in (
        (("export", "no"), 2, "run: no is not a run folder; it doesn't exist"),
        (("client", "a.png", "--url", "x"), 2, "url: 'x' is not http://HOST:PORT/NAME"),
        (("client", "a.png", "--url", "http://h:1/net"), 1, "image: can't read a.png"),
    ):
        code, said = run(*command)
        assert code == expected
        assert message in said
        assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        'x", privileged: true, y: "', "a\n    privileged: true\n", "$HOME", "a:b",
        "猫 🐈",
        "'", "a\u2028b", "%s {0}", "#x", "- y", "\x7f",
    ],
)  # fmt: skip
def test_a_folder_s_name_is_a_string_in_compose(tmp_path, name):
    import yaml

    from keras_resnet.serving import server

    folder = tmp_path / name
    (folder / "1").mkdir(parents=True)
    server.configure(folder)
    told = yaml.safe_load((folder / "server/compose.yaml").read_text())
    service = told["services"]["cpu"]
    assert set(service) == {
        "profiles", "image", "ports", "volumes", "command", "restart"
    }  # fmt: skip
    [volume] = service["volumes"]
    shown = name.replace("$", "$$")
    assert volume["target"] == f"/models/{shown}"
    assert volume["read_only"] is True
    assert service["command"][0] == (
        f"--model_config_file=/models/{shown}/server/models.config"
    )
    assert server.labels_of(folder) == {}
