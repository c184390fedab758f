"""The rules between modules, the public surface and the packaging."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator

import imports
import picture
import pytest
from conftest import ROOT

import keras_resnet

HEAVY = {"tensorflow", "keras", "mlflow", "keras_tuner", "matplotlib", "sklearn"}
LAZY = {"mlflow", "keras_tuner", "matplotlib", "tensorflow_datasets"}
WITHOUT_TENSORFLOW = {
    "cli",
    "cost",
    "errors",
    "files",
    "keras_resnet",
    "limits",
    "plan",
    "presets",
    "records",
    "spec",
    "tasks",
    "units",
    "version",
}

# Room -> rooms that it may import from, all of them above it. `keras_resnet` is the
# package's own `__init__`, from which nothing is imported.
ROOMS = {
    room: set(others.split())
    for room, others in {
        "version": "",
        "limits": "",
        "errors": "limits",
        "units": "errors",
        "runtime": "errors",
        "losses": "",
        "optimizers": "",
        "hdf5": "errors limits runtime",
        "files": "errors hdf5 limits",
        "figures": "files",
        "statistics": "",
        "records": "errors",
        "spec": "errors records",
        "tasks": "units",
        "presets": "errors spec",
        "plan": "errors spec",
        "cost": "plan spec",
        "naming": "plan presets spec",
        "recompute": "plan",
        "data": "errors files limits records tasks units",
        "recipe": "data errors limits naming plan presets records spec tasks",
        "recipes": "data errors presets recipe",
        "convolution": "plan runtime",
        "layers": "convolution",
        "heads": "errors tasks",
        "blocks": "layers plan spec",
        "network": "blocks errors plan presets recompute runtime spec",
        "run": "data errors files limits network recipe",
        "graphs": "errors",
        "folding": "graphs layers",
        "surgery": "blocks errors folding graphs layers network plan recompute spec",
        "resnext": "blocks errors layers network plan spec surgery",
        "tracking": "errors files limits runtime",
        "serving": "data errors files folding graphs heads limits network run"
        " statistics tasks version",
        "prediction": "data errors heads run serving",
        "leaderboard": "cost errors files recipe run statistics tasks units",
        "analysis": "cost errors figures files heads graphs layers losses network plan"
        " presets run runtime spec tracking units",
        "weights": "analysis cost errors files hdf5 limits network plan presets run"
        " spec tasks",
        "applications": "errors network presets weights",
        "training": "cost data errors figures files graphs heads layers losses network"
        " optimizers plan presets recipe recipes run runtime serving spec"
        " statistics surgery tasks tracking units version weights",
        "experiments": "analysis cost data errors figures files network presets recipe"
        " recipes resnext run spec statistics surgery tracking training units",
        "tuning": "cost data errors figures files limits naming network plan presets"
        " recipe run records runtime serving spec statistics surgery tasks tracking"
        " training units",
        "cli": "analysis convolution cost data errors experiments figures files"
        " hdf5 leaderboard limits naming network plan prediction presets recipe recipes"
        " run runtime serving spec tasks tracking training tuning units version"
        " weights",
        "keras_resnet": "analysis applications cost data errors experiments layers"
        " network optimizers plan presets resnext runtime serving spec surgery tracking"
        " training version weights",
    }.items()
}


def test_rooms_import_only_from_rooms_above_them():
    found = imports.rooms()
    assert not found.keys() - ROOMS.keys(), "give each new room its row"
    rows = list(ROOMS)
    for number, (room, others) in enumerate(ROOMS.items()):
        assert others <= set(rows[:number]), f"{room} stands above what it imports"
    for room, others in found.items():
        assert others == ROOMS[room], f"{room}: what its row allows is what it imports"


def test_the_picture_is_of_these_imports(update_golden):
    if update_golden:
        picture.PICTURE.write_text(picture.draw())
    assert picture.PICTURE.read_text() == picture.draw(), (
        "pytest tests/test_structure.py --update-golden"
    )


def test_files_import_in_no_circle():
    """For annotations and within functions neither, but for what hands on."""
    folders = (*imports.PACKAGES, "benchmarks")
    assert imports.circles(imports.graph(*folders)) == []


def test_what_is_large_is_imported_where_it_is_used():
    for path in imports.files("keras_resnet"):
        room = imports.room_of(imports.module_of(path))
        for found in imports.imports(path):
            package = found.module.split(".")[0]
            if found.top and not found.typing:
                assert package not in LAZY, path
                assert room not in WITHOUT_TENSORFLOW or package not in HEAVY, path


def test_kerastuner_is_imported_only_by_what_searches():
    """Spaces, budgets and reports are read without it and without TensorFlow."""
    for path in imports.files("tuning"):
        heavy = {
            found.module.split(".")[0]
            for found in imports.imports(path)
            if found.top and not found.typing
        } & (HEAVY | LAZY)
        assert not heavy or path.stem in {"hypermodel", "oracles", "tuner"}, path


def test_a_module_has_a_name_of_its_own():
    """One guess finds it. Commands are named by what they run."""
    names = Counter(
        path.stem
        for path in imports.files(*imports.PACKAGES)
        if path.stem not in ("__init__", "__main__") and path.parent.name != "cli"
    )
    assert {name for name, times in names.items() if times > 1} == set()


def test_no_module_is_named_as_what_its_package_exports():
    """The first import would put the module in place of the function."""
    for path in imports.files(*imports.PACKAGES):
        if path.stem == "__init__":
            package = importlib.import_module(imports.module_of(path))
            named = set(getattr(package, "__all__", ())) - set(
                getattr(package, "_MODULES", ())
            )
            inside = {found.stem for found in path.parent.iterdir()}
            assert not named & inside, path


Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(*folders: str) -> Iterator[tuple[str, Function]]:
    """Every function and method, with its dotted name."""
    for path in imports.files(*folders):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                yield f"{imports.module_of(path)}.{node.name}", node


def lines_of(function: Function) -> int:
    """Of the body, without its docstring."""
    body = function.body[ast.get_docstring(function) is not None :]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def test_a_function_fits_on_a_screen():
    long = {
        name
        for name, function in functions(*imports.PACKAGES, "benchmarks")
        if lines_of(function) > 70
    }
    assert long == set()


def test_what_is_handed_on_together_is_a_record():
    """Only what users call has more than ten parameters."""
    public = {
        name
        for path in imports.files(*imports.PACKAGES)
        if path.stem == "__init__"
        for name in getattr(
            importlib.import_module(imports.module_of(path)), "__all__", ()
        )
    }
    for name, function in functions(*imports.PACKAGES, "benchmarks"):
        a = function.args
        given = [
            *a.posonlyargs,
            *a.args,
            *a.kwonlyargs,
            *filter(None, (a.vararg, a.kwarg)),
        ]
        command = any(".command(" in ast.unparse(d) for d in function.decorator_list)
        assert len(given) <= 10 or command or function.name in public, name


def test_public_names_are_there():
    names = keras_resnet.__all__  # ruff keeps it sorted
    assert set(names) == {*keras_resnet._HOMES, *keras_resnet._MODULES}
    for name, home in keras_resnet._HOMES.items():
        module = importlib.import_module(f"keras_resnet.{home}")
        assert getattr(keras_resnet, name) is getattr(module, name)
    for name in keras_resnet._MODULES:
        assert getattr(keras_resnet, name) is sys.modules[f"keras_resnet.{name}"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        keras_resnet.nothing  # noqa: B018


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_requirements_equal_the_packages_dependencies():
    requirements = (ROOT / "requirements.txt").read_text().splitlines()
    assert requirements == PROJECT["dependencies"]


_RUNTIMES = ("torch", "litert", "onnx", "openvino")  # extras that are imported


def test_what_is_imported_is_declared():
    """Not only brought along by another package."""
    extras = PROJECT["optional-dependencies"]
    declared = {
        re.split(r"[^\w.-]", line)[0].lower()
        for line in (
            *PROJECT["dependencies"],
            *(line for extra in _RUNTIMES for line in extras[extra]),
        )
    }
    distributions = importlib.metadata.packages_distributions()
    for path in imports.files(*imports.PACKAGES):
        for found in imports.imports(path):
            root = found.module.split(".")[0]
            if root in {*sys.stdlib_module_names, "keras_resnet", "tuning"}:
                continue
            names = {name.lower() for name in distributions.get(root, [root])}
            assert names & declared, f"{path}: {root}"


def test_names_that_are_imported_from_here_are_there():
    """In benchmarks too, which no test runs whole."""
    for path in (*imports.files("benchmarks"), *(ROOT / "tests").glob("*.py")):
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
