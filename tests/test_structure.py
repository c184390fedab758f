"""The rules between modules, the public surface and the packaging."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT

import keras_resnet

PACKAGE = ROOT / "keras_resnet"
HEAVY = {"tensorflow", "keras", "mlflow", "keras_tuner", "matplotlib", "sklearn"}
LAZY = {"mlflow", "keras_tuner", "matplotlib", "tensorflow_datasets"}

# Room -> rooms that it may import from; "*" is any.
RULES: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "amounts": set(),
    "fields": {"errors"},
    "spec": {"errors", "fields"},
    "presets": {"spec"},
    "plan": {"spec"},
    "cost": {"plan", "spec"},
    "runfolder": {"errors"},
    "runtime": set(),
    "convolution": {"plan", "runtime"},
    "layers": {"convolution"},
    "recompute": set(),
    "blocks": {"layers", "plan", "spec"},
    "network": {"blocks", "errors", "plan", "presets", "recompute", "runtime", "spec"},
    "folding": {"errors", "layers"},
    "surgery": {
        "blocks",
        "errors",
        "folding",
        "layers",
        "network",
        "plan",
        "recompute",
        "spec",
    },
    "resnext": {"blocks", "layers", "network", "plan", "spec", "surgery"},
    "applications": {"errors", "network", "presets", "spec", "weights"},
    "weights": {"errors", "network", "plan", "presets", "runfolder", "spec"},
    "losses": set(),
    "optimizers": set(),
    "data": {"errors", "fields"},
    "tracking": {"errors", "runfolder"},
    "serving": {"data", "errors", "folding", "network", "runfolder", "spec"},
    "prediction": {"data", "runfolder", "serving"},
    "analysis": {
        "amounts",
        "cost",
        "data",
        "errors",
        "layers",
        "network",
        "plan",
        "presets",
        "runfolder",
        "runtime",
        "spec",
        "surgery",
        "tracking",
    },
    "training": {"*"},
    "experiments": {"*"},
    "cli": {"*"},
}
WITHOUT_TENSORFLOW = (
    "__init__",
    "errors",
    "amounts",
    "fields",
    "spec",
    "presets",
    "plan",
    "cost",
    "cli",
)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, and whether at its top level."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    functions = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        for child in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        top = id(node) not in functions
        if isinstance(node, ast.Import):
            found += [(alias.name, top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "keras_resnet":
                found += [(f"keras_resnet.{alias.name}", top) for alias in node.names]
            else:
                found.append((node.module, top))
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    room = room_of(path)
    allowed = RULES[room]
    for module, top in imports(path):
        package, *rest = module.split(".")
        if package == "keras_resnet" and rest and "*" not in allowed:
            assert rest[0] in {room, *allowed}, f"{room} must not import {module}"
        assert package != "tuning" or room == "cli"
        if top:
            assert package not in LAZY, f"{room} must import {package} where it is used"
            if room in WITHOUT_TENSORFLOW:
                assert package not in HEAVY, f"{room} must not import {package}"


def test_kerastuner_is_imported_only_by_what_searches():
    """Spaces, budgets and reports are read without it and without TensorFlow."""
    for path in sorted((ROOT / "tuning").glob("*.py")):
        heavy = {m.split(".")[0] for m, top in imports(path) if top} & (HEAVY | LAZY)
        assert not heavy or path.stem in {"hypermodel", "oracles", "tuner"}, path


def test_no_module_shares_its_name_with_a_public_function():
    import tuning

    assert not set(tuning.__all__) & {p.stem for p in (ROOT / "tuning").glob("*.py")}
    modules = {room_of(path) for path in FILES}
    functions = set(keras_resnet._HOMES)
    assert not modules & functions


def test_public_surface_is_whole():
    names = keras_resnet.__all__  # ruff keeps it sorted
    assert set(names) == {*keras_resnet._HOMES, *keras_resnet._MODULES}
    for name in names:
        assert getattr(keras_resnet, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        keras_resnet.nothing  # noqa: B018


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_equal_the_packages_dependencies():
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    assert requirements == PROJECT["dependencies"]


def test_what_is_imported_is_declared():
    """Not only brought along by another package."""
    extras = PROJECT["optional-dependencies"]
    declared = {
        re.split(r"[^\w.-]", line)[0].lower()
        for line in (*PROJECT["dependencies"], *extras["torch"])
    }
    distributions = importlib.metadata.packages_distributions()
    for path in (*FILES, *(ROOT / "tuning").glob("*.py")):
        for module, _ in imports(path):
            root = module.split(".")[0]
            if root in {*sys.stdlib_module_names, "keras_resnet", "tuning"}:
                continue
            names = {name.lower() for name in distributions.get(root, [root])}
            assert names & declared, f"{path}: {root}"


def test_names_that_are_imported_from_here_are_there():
    """In benchmarks too, which no test runs whole."""
    for path in (*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            if node.module.split(".")[0] in ("keras_resnet", "tuning"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name) or importlib.util.find_spec(
                        f"{node.module}.{alias.name}"
                    ), f"{path.name}: {node.module} has no {alias.name}"


def test_readme_names_every_command_and_make_target():
    from keras_resnet.cli import main

    readme = (ROOT / "README.md").read_text()
    for name in main.commands:
        assert f"keras-resnet {name}" in readme
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in set(targets) - {"clean"}:
        assert f"make {target}" in readme
