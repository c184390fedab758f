"""Commands where nothing can be written: one line, and nothing half written.

A limit on the size of files fails as a full disk does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import ROOT

from keras_resnet import files
from keras_resnet.cli import main
from keras_resnet.errors import RunFolderError
from keras_resnet.tracking.buffer import Buffer

RUN = ROOT / "tests/golden/previous/finished"
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from keras_resnet import files
from keras_resnet.cli import main
from keras_resnet.errors import RunFolderError
main(sys.argv[2:])
"""


def limited(size: int, *arguments: object) -> tuple[int, str]:
    """A command that may write files of so many bytes: exit code and messages."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(size), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stderr.strip()


def test_a_database_is_made_whole_or_not_at_all(workplace):
    """What MLflow leaves half made never opens again."""
    buffer = Buffer("run")
    buffer.append("start", store="s", run="0" * 32, name="n", experiment="e",
                  parent_folder=None, parent_id=None)  # fmt: skip
    buffer.append("end", status="FINISHED")
    store = workplace / "mlflow.db"
    command = ["sync", "run", "--tracking-uri", f"sqlite:///{store}"]
    code, said = limited(200_000, *command)
    assert code == 1
    assert len(said.splitlines()) == 1
    assert f"run: MLflow at sqlite:///{store} failed: " in said
    assert [path.name for path in workplace.iterdir()] == ["run"]
    done = CliRunner().invoke(main, command)
    assert (done.exit_code, done.stdout) == (0, f"run: sent to sqlite:///{store}\n")


@pytest.mark.parametrize("content", [b"no database", None])
def test_a_store_that_is_none_is_refused_at_once(workplace, content):
    """MLflow tries for an hour."""
    Buffer("run").append("start", store="s", run="0" * 32, name="n", experiment="e",
                         parent_folder=None, parent_id=None)  # fmt: skip
    store = workplace / "mlflow.db" if content else Path("/proc/none/mlflow.db")
    if content:
        store.write_bytes(content)
    done = CliRunner().invoke(
        main, ["sync", "run", "--tracking-uri", f"sqlite:///{store}"]
    )
    assert done.exit_code == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [2_000, 60_000])
def test_an_export_is_whole_or_not_there(workplace, size):
    code, said = limited(size, "export", RUN, "--to", "net")
    assert code == 2
    assert said.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in said
    assert not list(workplace.rglob("*.pb*"))
    assert not list(workplace.rglob(".part-*"))


@pytest.mark.slow
@pytest.mark.parametrize("target", ["a.keras", "a.safetensors", "a.weights.h5"])
def test_weights_are_converted_whole_or_not_at_all(workplace, target):
    code, said = limited(30_000, "convert", RUN, target)
    assert code == 2
    lines = [line for line in said.splitlines() if not line.startswith("E0000")]
    assert len(lines) == 1
    assert lines[0].startswith("Error: ")
    assert not list(workplace.iterdir())


def test_a_full_disk_that_tensorflow_writes_to_is_a_line(tmp_path):
    """Its errors are no OSError."""
    import tensorflow as tf

    with (
        pytest.raises(RunFolderError, match="No space left on device; what was"),
        files.replacing(tmp_path / "oracle.json"),
        tf.io.gfile.GFile("/dev/full", "w") as file,
    ):
        file.write("x" * 2**20)
    with (
        pytest.raises(tf.errors.InvalidArgumentError),
        files.replacing(tmp_path / "oracle.json"),
    ):
        tf.reshape(tf.zeros(3), (2, 2))
