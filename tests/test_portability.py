"""Nothing needs what only POSIX has, a locale of UTF-8, or Keras as it comes."""

from __future__ import annotations

import ast

import pytest
from conftest import ROOT, python

PLACE = "runtime.py"
POSIX = {
    "fcntl", "resource", "pwd", "grp", "termios", "os.fork", "os.getuid", "os.geteuid",
    "os.killpg", "os.setsid", "os.getpgid", "os.pread", "os.pwrite", "os.mkfifo",
    "signal.SIGKILL", "signal.SIGHUP", "signal.SIGUSR1", "signal.SIGALRM",
    "socket.AF_UNIX",
}  # fmt: skip
# What is called open, or is told the encoding once for all.
NO_TEXT = {"files", "options", "Image", "gzip", "os", "run", "opener"}
MODULES = [
    path
    for package in ("keras_resnet", "tuning")
    for path in sorted((ROOT / package).rglob("*.py"))
]


def names(source: str) -> set[str]:
    """Modules that are imported, attributes of modules, and keyword arguments."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} | {
                f"{node.module}.{alias.name}" for alias in node.names
            }
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.keyword) and node.arg:
            found.add(node.arg)
    return found


def by_locale(call: ast.Call) -> bool:
    """Whether a call reads or writes text in whatever encoding the system has."""
    text = ast.unparse(call)
    if isinstance(call.func, ast.Attribute):
        name, owner = call.func.attr, ast.unparse(call.func.value)
    else:
        name, owner = ast.unparse(call.func), ""
    if "utf-8" in text or owner in NO_TEXT or text.startswith("limits.read_text("):
        return False
    return (name in {"read_text", "write_text"} and owner != "") or (
        name == "open" and "b'" not in text
    )


def test_texts_are_utf_8_whatever_the_locale_is():
    assert not [
        f"{path.name}:{node.lineno}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and by_locale(node)
    ]


def test_what_only_posix_has_is_in_one_module():
    posix = POSIX | {"start_new_session", "preexec_fn"}
    users = {path.name for path in MODULES if names(path.read_text("utf-8")) & posix}
    assert users == {PLACE}


@pytest.mark.slow
def test_all_is_imported_and_trains_without_fcntl_and_resource(workplace):
    """Other packages may have them; ours are told that there are none."""
    code = """
import builtins, importlib, pkgutil, sys
from pathlib import Path

plain = builtins.__import__
def without(name, globals=None, *rest, **more):
    importer = (globals or {}).get("__name__", "").split(".")[0]
    if importer in {"keras_resnet", "tuning"} and name in {"fcntl", "resource", "pwd"}:
        raise ModuleNotFoundError(f"No module named {name!r}")
    return plain(name, globals, *rest, **more)
builtins.__import__ = without

import keras_resnet, tuning
from keras_resnet.cli import main
for package in (keras_resnet, tuning):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
main(["train", "--smoke", "--epochs", "1", "--folder", "runs/mine"],
     standalone_mode=False)
from keras_resnet.tracking.buffer import Buffer
kinds = [event.kind for event in Buffer("runs/mine").events()]
assert kinds[-1] == "end" and not Buffer("runs/mine").is_alive(), kinds
print("trained", Path("runs/mine/result.json").is_file())
"""
    assert python(code, PYTHONPATH=str(ROOT)).endswith("trained True")
