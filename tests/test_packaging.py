from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The package as it would be published, from what git tracks."""
    place = tmp_path_factory.mktemp("wheel")
    source = place / "source"
    source.mkdir()
    files = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, check=True
    ).stdout
    for name in filter(None, files.decode().split("\0")):
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(source)],
        check=True,
        capture_output=True,
    )
    return next(place.glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_the_package_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {f for f in folders if not f.endswith(".dist-info")} == {
        "keras_resnet",
        "tuning",
    }
    assert "keras_resnet/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_wheel_runs_from_an_empty_folder(wheel, tmp_path):
    """With this environment's dependencies, without this checkout."""
    site = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--target", site, wheel],
        check=True,
        capture_output=True,
    )
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import keras_resnet; "
        f"assert keras_resnet.__file__.startswith({str(site)!r}); "
        "from keras_resnet.cli import main; main(['list', 'resnet50'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "25,557,032" in done.stdout, done.stderr
