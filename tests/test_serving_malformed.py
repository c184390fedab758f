"""What the exported graph does with input that is none, through the C++ loader."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from conftest import ROOT

from keras_resnet import build, cifar_resnet, serving

COUNT = 500  # `python -m benchmarks.checks.malformed` tries ten thousand


@pytest.mark.slow
def test_malformed_requests_are_refused(tmp_path):
    model = build(cifar_resnet(8, input_shape=(16, 16, 3), stem_width=4))
    path = serving.export(model, tmp_path / "net", check=False)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.checks.malformed",
            str(path),
            "--count",
            str(COUNT),
            "--json",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["requests"] == found["refused"] == COUNT
    # What was refused by mistake would be refused always.
    assert found["sound_before"]
    assert found["sound_after"]
    assert found["peak_bytes"] < 3 * 2**30
    messages = " ".join(found["messages"])
    assert "not a JPEG, PNG, GIF or BMP at index" in messages
    assert "at most 1024 images in a request" in messages
