"""The README, the pages, the notebooks: what they show runs, what they name exists."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import click
import generated
import pytest
from conftest import ROOT

import keras_resnet
from keras_resnet import serving
from keras_resnet.cli import main
from keras_resnet.errors import UserError

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "tests/golden/previous/README.md",
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
RENDERED = ROOT / "docs" / "notebooks"
# Names of networks and layers in others' files, on the page of weights.
OTHERS_NETWORKS = {
    "res2a_branch2a",
    "resnet101c",
    "resnet101d",
    "resnet101s",
    "resnet152d",
    "resnet18d",
    "resnet200d",
    "resnet26",
    "resnet26d",
    "resnet26t",
    "resnet34d",
    "resnet50_gn",
    "resnet50c",
    "resnet50d",
    "resnet50s",
    "resnetaa50",
    "resnetblur50",
    "resnetv2_101",
    "resnetv2_101d",
    "resnetv2_152",
    "resnetv2_18",
    "resnetv2_50",
    "resnetv2_50d",
    "resnext50d_32x4d",
}
# Options that the pages show by themselves: MLflow's, TF Serving's, tests/kills.py's.
OTHERS = {
    "--backend-store-uri", "--enable_batching", "--batching_parameters_file", "--source"
}  # fmt: skip


def page_id(path):
    return str(path.relative_to(ROOT))


pages = pytest.mark.parametrize("page", PAGES, ids=page_id)


def blocks(text: str, language: str) -> list[str]:
    """Code of a language; one block after the other, as a fence may open or close."""
    found = re.findall(r"^```([^\n]*)\n(.*?)^```", text, re.S | re.M)
    return [code for title, code in found if re.fullmatch(language, title)]


def spans(text: str) -> list[str]:
    """Code within a line or two of prose."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def commands(text: str) -> list[list[str]]:
    """Arguments of every `keras-resnet` command line in blocks and spans."""
    lines = [
        line
        for block in blocks(text, "(?:bash|sh)?")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    found = []
    for line in [*lines, *spans(text)]:
        words = shlex.split(line, comments=True) if "keras-resnet " in line else []
        if "keras-resnet" in words:
            start = words.index("keras-resnet") + 1
            end = next((i for i, w in enumerate(words) if w in ("&&", "|")), None)
            found.append(words[start:end])
    return found


def leaves(group: click.Group) -> Iterator[click.Command]:
    for command in group.commands.values():
        if isinstance(command, click.Group):
            yield from leaves(command)
        else:
            yield command


def check_names(command: str, values: dict) -> None:
    """Networks, recipes and sources that a command line names must be there."""
    from keras_resnet.analysis.reference import REFERENCES
    from keras_resnet.training import RECIPES
    from tuning import SPACES

    recipe, space = values.get("recipe") or "", values.get("space") or ""
    assert recipe.endswith(".json") or recipe in {"", *RECIPES}
    assert space.endswith(".json") or space in {"", *SPACES}
    networks = [values.get("model"), *values.get("names", ())]
    networks += [values.get("name")] if command == "show" else []
    if command == "profile" and "/" not in values["network"]:
        networks += [values["network"]] * (values["network"] not in REFERENCES)
    for name in filter(None, networks):
        if not name.isupper():  # as NAME is
            keras_resnet.get_spec(name)


@pages
def test_command_lines_parse(page):
    """With every option and name in them; nothing is run."""
    added = set(re.findall(r'^\+ +\("(\w+)"', page.read_text(), re.M))
    for command, *arguments in commands(page.read_text()):
        if command.startswith("-") or command.isupper():
            continue  # of all commands
        assert command in main.commands, f"{page.name}: keras-resnet {command}"
        if not arguments or added & {*arguments}:
            continue  # prose that names it, or a preset that the page adds
        known, rest = main.commands[command], list(arguments)
        while isinstance(known, click.Group) and rest:
            assert rest[0] in known.commands, f"{page.name}: {command} {rest[0]}"
            known = known.commands[rest.pop(0)]
        try:
            parsed = known.make_context(command, rest)
            if command not in ("evaluate", "predict", "serve"):
                check_names(command, parsed.params)
        except click.exceptions.Exit:
            pass  # --help
        except (click.ClickException, UserError) as error:
            line = shlex.join(["keras-resnet", command, *arguments])
            pytest.fail(f"{page.name}: {line}: {error}")


@pages
def test_options_exist(page):
    known = {
        option
        for command in leaves(main)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    known |= {"--help", "--version"} | OTHERS
    for span in spans(page.read_text()):
        if span.startswith("--"):
            for option in re.findall(r"--[a-z][a-z_-]*", span):
                assert option in known, f"{page.name} names {option}"


def test_every_command_has_its_place_in_a_page():
    text = "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for name in main.commands:
        assert f"keras-resnet {name}" in text


def test_every_benchmark_has_its_place_in_a_page():
    known = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "benchmarks").rglob("*.py")
        if "@click.command" in path.read_text()
    }
    text = "".join(page.read_text() for page in PAGES)
    text += (ROOT / "docs/results/search/README.md").read_text()
    assert set(re.findall(r"python -m\s+(benchmarks[.\w]*)", text)) == known


@pages
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_in_the_index():
    docs = ROOT / "docs"
    for index in docs.rglob("README.md"):
        linked = re.findall(r"\]\(([^)#]+)\)", index.read_text())
        for path in index.parent.glob("*.md"):
            assert path == index or path.name in linked


@pages
def test_presets_that_are_named_exist(page):
    known = set(keras_resnet.PRESETS) | OTHERS_NETWORKS
    pattern = r"`((?:cifar_|wide_|keras_)?res\w*\d\w*)`"
    for name in re.findall(pattern, page.read_text()):
        assert name in known, f"{page.name} names {name}, which is no preset"


def test_changes_of_the_extending_page_apply():
    """A place that has moved too far is to be shown anew."""
    page = (ROOT / "docs" / "extending.md").read_text()
    for change in blocks(page, "diff"):
        command = ["git", "apply", "--check", "--recount", "-"]
        done = subprocess.run(
            command, input=change, cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{change}\n{done.stderr}"


def test_the_readme_serves_as_the_package_does(workplace):
    readme = (ROOT / "README.md").read_text().replace("\\\n", " ")
    line = serving.docker_line(Path("models/mine"))
    shown = next(line for line in readme.splitlines() if line.startswith("docker run"))
    assert shlex.split(shown.replace("$PWD", str(workplace))) == shlex.split(line)


def test_the_readme_maps_every_module():
    readme = (ROOT / "README.md").read_text()
    mapped = set(re.findall(r"`(\w+)/?`", readme[readme.index("## Map") :]))
    rooms = {path.stem for path in (ROOT / "keras_resnet").iterdir()}
    assert rooms - {"__init__", "__pycache__", "py"} <= mapped


SNIPPETS = [page for page in PAGES if "```python" in page.read_text()]


@pytest.mark.slow
@pytest.mark.parametrize("page", SNIPPETS, ids=page_id)
def test_snippets_run(page, workplace, monkeypatch):
    """One after the other, as a reader would; recipes are cut to an epoch."""
    from keras_resnet import recipes

    if page.name == "README.md":
        short = {name: r.over(1) for name, r in recipes.RECIPES.items()}
        monkeypatch.setattr(recipes, "RECIPES", short)
    names: dict[str, object] = {}
    with warnings.catch_warnings():  # a page silences some
        for snippet in blocks(page.read_text(), "python"):
            # Each of the README's stands by itself.
            exec(snippet, {} if page.name == "README.md" else names)


@pytest.mark.parametrize(
    ("page", "marker"),
    [(page, marker) for page, made in generated.GENERATED.items() for marker in made],
)
def test_generated_tables_are_as_generated(page, marker, update_golden):
    found, wanted = generated.hold(page, marker, update=update_golden)
    assert found == wanted, "pytest tests/test_documentation.py --update-golden"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=page_id)
def test_notebooks_are_prose_and_calls(path):
    """Stored without outputs; `make test` executes them by nbmake."""
    cells = json.loads(path.read_text())["cells"]
    assert cells[0]["cell_type"] == "markdown"
    assert cells[0]["source"][0].startswith("# ")
    for cell in (cell for cell in cells if cell["cell_type"] == "code"):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
        lines = [line for line in cell["source"] if not line.startswith("%")]
        tree = ast.parse("".join(lines))
        assert not [node for node in ast.walk(tree) if isinstance(node, kinds)]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=page_id)
def test_rendered_notebooks_are_of_these(path):
    """`make pages` renders them."""
    page = (RENDERED / f"{path.stem}.md").read_text()
    for cell in json.loads(path.read_text())["cells"]:
        assert "".join(cell["source"]).strip() in page, "make pages"


def test_rendered_notebooks_are_small():
    files = [path for path in RENDERED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2e6
