"""What is published: built from what git tracks, used without this checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile

import pytest
from click.testing import CliRunner
from conftest import ROOT

from keras_resnet.cli import main


def invoke(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


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
    """An empty working folder, and what runs the wheel's own command in it.

    With this environment's dependencies, without this checkout; `make package` does it
    in an empty environment, which takes minutes to fill.
    """
    site = tmp_path_factory.mktemp("site")
    [wheel] = built.glob("*.whl")
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target"]
    subprocess.run([*command, site, wheel], check=True, capture_output=True)
    place = tmp_path_factory.mktemp("empty")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def python(*arguments: object) -> str:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=place,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    code = "import keras_resnet, tuning; print(keras_resnet.__file__, tuning.__file__)"
    assert python("-c", code).count(str(site)) == 2
    return place, lambda *arguments: python(site / "bin" / "keras-resnet", *arguments)


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
def test_the_main_job_in_an_empty_folder(installed):
    """`train` with few epochs, then `evaluate` and `predict`, in other processes."""
    place, run = installed
    assert "25,557,032" in run("list", "resnet50")
    printed = run("train", "--epochs", 2, "--folder", "runs/mine")
    assert "epoch 2/2" in printed
    for line in (
        "run folder  runs/mine",
        "SavedModel  runs/mine/export/1",
        "  mlflow ui\n",
    ):
        assert line in printed
    evaluated = json.loads(run("evaluate", "runs/mine", "--json"))
    assert f"test accuracy {evaluated['accuracy']:.2%}" in printed
    assert "360 images" in invoke("evaluate", place / "runs/mine").output

    samples = sorted((place / "runs/mine/samples").glob("*.png"))
    by_run = json.loads(run("predict", "runs/mine", *samples, "--json"))
    assert [row["image"] for row in by_run] == list(map(str, samples))
    by_export = json.loads(
        run("predict", "runs/mine/export/1", *samples, "--json", "--top", 10)
    )
    for run_row, export_row in zip(by_run, by_export, strict=True):
        assert len(run_row["classes"]) == 3
        assert sum(export_row["classes"].values()) == pytest.approx(1, abs=1e-4)
        for name, share in run_row["classes"].items():
            assert export_row["classes"][name] == pytest.approx(share, abs=1e-4)
    shown = invoke("predict", place / "runs/mine", samples[0])
    assert samples[0].name in shown.output

    bad = place / "bad.png"
    bad.write_text("no image")
    wrong = invoke("predict", place / "runs/mine", samples[0], bad)
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        f"Error: image: {bad} is not an image file\n",
    )
    assert wrong.stdout == shown.stdout
    again = invoke("train", "--folder", place / "runs/mine")
    assert (again.exit_code, again.output) == (
        2,
        f"Error: folder: {place}/runs/mine holds a finished run; name a new folder\n",
    )


@pytest.mark.slow
def test_the_wheel_searches_in_an_empty_folder(installed):
    _, run = installed
    printed = run(
        "tune", "--trials", 1, "--epochs", 1, "--no-track", "--folder", "runs/search"
    )
    assert "of 1 trial (1 completed)" in printed


def test_extras_are_those_of_the_readme_and_the_makefile():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = "".join(path.read_text() for path in (ROOT / "README.md", ROOT / "Makefile"))
    text += (ROOT / "docs" / "weights.md").read_text()
    for extra in project["optional-dependencies"]:
        assert f"'.[{extra}]'" in text
