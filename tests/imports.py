"""Who imports whom, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGES = ("keras_resnet", "tuning")
# The only arrow upward: `Recipe.compile_args` and `Recipe.callbacks`, for Keras' own
# `compile` and `fit`, import what does the work when they are called.
FORWARD = ("keras_resnet.recipe", "keras_resnet.training")


class Import(NamedTuple):
    """One module that a file imports."""

    module: str  # dotted, absolute
    top: bool  # when the file is imported, not within a function
    typing: bool  # for annotations only


def files(*folders: str) -> list[Path]:
    """All Python files of packages, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """`keras_resnet.data.idx`; a package is named by its folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> frozenset[str]:
    """All modules of ours, the benchmarks' too."""
    return frozenset(module_of(path) for path in files(*PACKAGES, "benchmarks"))


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """What a file imports; `from keras_resnet import plan` is `keras_resnet.plan`."""
    found: list[Import] = []

    def walk(node: ast.AST, top: bool, typing: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            top = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            typing = True
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, top, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.extend(Import(name, top, typing) for name in _sources(path, node))
        for child in ast.iter_child_nodes(node):
            walk(child, top, typing)

    walk(ast.parse(path.read_text()), True, False)
    return tuple(found)


def _sources(path: Path, node: ast.ImportFrom) -> Iterator[str]:
    base = node.module or ""
    if node.level:
        package = module_of(path).split(".")
        package = package if path.stem == "__init__" else package[:-1]
        up = package[: len(package) - node.level + 1]
        base = ".".join([*up, *([node.module] if node.module else [])])
    for alias in node.names:
        name = f"{base}.{alias.name}"
        yield name if name in modules() else base


def room_of(module: str) -> str:
    """`data` of `keras_resnet.data.idx`; `tuning` is one room."""
    package, *rest = module.split(".")
    return rest[0] if package == "keras_resnet" and rest else package


def graph(*folders: str) -> dict[str, set[str]]:
    """Module -> modules of ours that it imports, anywhere and for any purpose.

    Without `FORWARD`, which is within functions, and without what `python -m` runs:
    nobody imports a `__main__`.
    """
    return {
        module_of(path): {
            found.module
            for found in imports(path)
            if found.top or (module_of(path), found.module) != FORWARD
        }
        & modules() - {module_of(path)}
        for path in files(*folders or PACKAGES)
        if path.stem != "__main__"
    }


def rooms() -> dict[str, set[str]]:
    """Room -> rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for module, others in graph().items():
        room = room_of(module)
        found.setdefault(room, set()).update(map(room_of, others))
    return {room: others - {room} for room, others in found.items()}


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """Groups of nodes from each of which every other can be reached."""
    reach = {node: reachable(arrows, node) for node in arrows}
    groups: list[set[str]] = []
    for node in arrows:
        group = {other for other in reach[node] if node in reach.get(other, ())}
        if group and group not in groups:
            groups.append(group)
    return groups


def reachable(arrows: dict[str, set[str]], start: str) -> set[str]:
    """All nodes that arrows lead to from one."""
    seen: set[str] = set()
    todo = [start]
    while todo:
        for other in arrows.get(todo.pop(), ()):
            if other not in seen:
                seen.add(other)
                todo.append(other)
    return seen
