"""Folders of models where exports fail, are killed, or meet."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from conftest import ROOT

from keras_resnet import build, cifar_resnet, serving
from keras_resnet.errors import UserError
from keras_resnet.serving import ExportError, locking, server

FORMATS = ("saved_model", "litert", "onnx", "openvino")


@pytest.fixture(scope="module")
def model():
    return build(cifar_resnet(8, input_shape=(8, 8, 1), stem_width=16))


def test_two_exports_into_one_folder(model, tmp_path):
    path = tmp_path / "net"
    with (
        locking.writing(path, [path]),
        pytest.raises(ExportError, match=r"another export writes to .*; start again"),
    ):
        serving.export(model, path, format="onnx", check=False)
    assert serving.export(model, path, format="onnx", check=False).name == "1"


def test_what_a_kill_left_is_removed_by_the_next_export(model, tmp_path):
    """A process that holds the folder's lock is killed with a version half written."""
    path = tmp_path / "net"
    code = f"""
        import time
        from pathlib import Path
        from keras_resnet import files
        from keras_resnet.serving import locking
        path = Path({str(path)!r})
        with locking.writing(path, [path / "onnx"]):
            with files.replacing(path / "onnx" / "1") as temporary:
                temporary.mkdir()
                (temporary / "model.onnx").write_bytes(b"half")
                time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while not [*path.rglob("model.onnx")]:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert server.versions(path / "onnx") == []
    (path / "onnx" / "notes.txt").write_text("mine")
    written = serving.export(model, path, format="onnx", check=False)
    assert written == path / "onnx" / "1"
    assert sorted(each.name for each in written.parent.iterdir()) == ["1", "notes.txt"]


@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk_is_one_line(model, tmp_path, name):
    """A limit on the size of files fails as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"can't (write|be written)") as raised:
            serving.export(model, tmp_path / "new" / "net", format=name, check=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(str(raised.value).splitlines()) == 1
    assert [*tmp_path.iterdir()] == []


def test_a_folder_that_can_not_be_is_one_line(model, tmp_path):
    (tmp_path / "file").write_text("a file")
    with pytest.raises(UserError, match=r"can't (write|be written)|is a file"):
        serving.export(model, tmp_path / "file" / "net", check=False)
    damaged = tmp_path / "net" / "server" / "models.config"
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{")
    with pytest.raises(ExportError, match=r"path: can't read .*models\.config"):
        serving.export(model, tmp_path / "net", check=False)
    assert server.versions(tmp_path / "net") == []
