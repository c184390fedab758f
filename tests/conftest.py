"""Shared settings and fixtures."""

from __future__ import annotations

import os

# Before TensorFlow is imported: as the command line sets them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

from keras_resnet import ResNetSpec, cifar_resnet

# Examples are drawn the same every time, and a shared machine may be slow.
settings.register_profile("suite", deadline=None, derandomize=True)
settings.load_profile("suite")

# Nothing is left in the user's cache, and nothing found there.
_CACHE = tempfile.TemporaryDirectory(prefix="keras-resnet-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name

ROOT = Path(__file__).parents[1]


def python(code: str, **changes: str | None) -> str:
    """What a fresh process prints, with changes of the environment."""
    environment = {**os.environ, **changes}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={key: value for key, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="Write golden files anew."
    )


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def tiny_spec() -> ResNetSpec:
    """8 layers, 8x8 pixels, gray."""
    return cifar_resnet(
        8, name="tiny", input_shape=(8, 8, 1), stem_width=4, widths=(4, 8, 8)
    )


@pytest.fixture(autouse=True, scope="session")
def _machine(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A place for what this machine keeps of its runs."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    import keras

    keras.utils.set_random_seed(0)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, with no tracking server set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path
