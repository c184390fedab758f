"""What is published: built from what git tracks, used without this checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from conftest import ROOT


def tracked() -> list[str]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True).stdout
    return list(filter(None, listed.decode().split("\0")))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Folder of the source distribution, and of the wheel that was built from it."""
    place = tmp_path_factory.mktemp("built")
    source = place / "source"
    for name in tracked():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--outdir", str(place), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return place


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """Runs the wheel's own command in an empty folder.

    With this environment's dependencies, without this checkout; `make package` does it
    in an empty environment, which takes minutes to fill.
    """
    site = tmp_path_factory.mktemp("site")
    [wheel] = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target"]
    subprocess.run([*command, site, wheel], check=True, capture_output=True)
    place = tmp_path_factory.mktemp("empty")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(site / "bin" / "keras-resnet"), *arguments],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import keras_resnet, tuning; print(keras_resnet.__file__, tuning.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(site)}, check=True,
    ).stdout  # fmt: skip
    assert found.count(str(site)) == 2
    return run


@pytest.mark.slow
def test_wheel_holds_the_packages_alone(built):
    [wheel] = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {f for f in folders if not f.endswith(".dist-info")} == {
        "keras_resnet",
        "tuning",
    }
    assert any(name.endswith("licenses/LICENSE") for name in names)
    packages = ("keras_resnet/", "tuning/")
    assert {n for n in names if n.startswith(packages)} == {
        n for n in tracked() if n.startswith(packages)
    }


@pytest.mark.slow
def test_source_distribution_can_be_built_from(built):
    """The fixture's wheel is of it; and it has what an installation reads."""
    [archive] = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "tuning/py.typed"} <= names


@pytest.mark.slow
def test_the_wheel_trains_and_searches_from_an_empty_folder(installed):
    assert "25,557,032" in installed("list", "resnet50")
    printed = installed("train", "--smoke", "--no-track", "--folder", "runs/mine")
    assert "SavedModel  runs/mine/export/1" in printed
    printed = installed(
        "tune", "--trials", "1", "--epochs", "1", "--no-track", "--folder", "runs/s"
    )
    assert "best of 1 trials" in printed


def test_extras_are_those_of_the_readme_and_the_makefile():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(path.read_text() for path in (ROOT / "README.md", ROOT / "Makefile"))
    text += (ROOT / "docs" / "weights.md").read_text()
    for extra in project["optional-dependencies"]:
        assert f"'.[{extra}]'" in text
