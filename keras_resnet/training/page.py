"""A run's page, `report.html`: all that came of it in one file, for a browser."""

from __future__ import annotations

import base64
import html
import io
import json
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_resnet import files
from keras_resnet.cost import estimate_cost
from keras_resnet.data import Splits
from keras_resnet.plan import make_plan
from keras_resnet.run import (
    AUGMENTED,
    BEST,
    CONFUSION,
    CURVES,
    LABELS,
    PAGE,
    VALUES,
    Run,
)
from keras_resnet.statistics import wilson
from keras_resnet.tasks import ACCURACY, TASKS
from keras_resnet.training.evaluation import Evaluation
from keras_resnet.training.judging import AnyEvaluation
from keras_resnet.training.report import CALIBRATION
from keras_resnet.units import count, in_units

LISTED = 20  # rows of a table
THUMBNAIL = 96  # pixels

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; color: #222; }
h1, h2 { font-weight: 600; line-height: 1.2; } h2 { margin-top: 2.5rem; }
table { border-collapse: collapse; }
td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; }
img { max-width: 100%; } pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; }
.warning { background: #fff3cd; padding: .6rem .8rem; }
"""


def write_page(
    run: Run, evaluation: AnyEvaluation, worst: Sequence[np.ndarray], data: Splits
) -> None:
    """Writes `report.html`, which needs no other file.

    Args:
        run: with figures, history and settings in its folder.
        evaluation: of the test images.
        worst: the images of `evaluation.worst`.
        data: that it was trained on.
    """
    recipe = run.recipe
    title = f"{run.folder.resolve().name}: {recipe.model.name} on {run.data['source']}"
    sections = [
        ("", _table(_facts(run, evaluation, data))),
        ("", _warnings(data)),
        ("Training", _figures(run.folder, CURVES, AUGMENTED)),
        (
            _HEADS.get(recipe.task, "Classes"),
            _figures(run.folder, CONFUSION, LABELS, VALUES) + _per_class(evaluation),
        ),
        ("Worst mistakes", _mistakes(evaluation, worst, data)),
        ("Labels that are likely wrong", _suspects(evaluation, data)),
        ("The same image in two classes", _table(data.conflicts[:LISTED])),
        ("Calibration", _figures(run.folder, CALIBRATION)),
        ("How to use it", _usage(run)),
        ("Recipe", _code(recipe.to_json())),
    ]
    body = "".join(
        (f"<h2>{name}</h2>" if name else "") + text for name, text in sections if text
    )
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{_text(title)}'
        f"</title><style>{_STYLE}</style><h1>{_text(title)}</h1>{body}</html>\n"
    )
    files.write_text(run.folder / PAGE, page)


_HEADS = {"labels": "Labels", "regression": "Values"}


def _facts(
    run: Run, evaluation: AnyEvaluation, data: Splits
) -> Iterable[tuple[str, str]]:
    """What the run is in a few lines."""
    recipe, metrics, history = run.recipe, evaluation.metrics, run.history
    cost, images = estimate_cost(recipe.model), int(metrics["images"])
    score, *others = TASKS[recipe.task].measures
    interval = ""
    if score is ACCURACY:
        low, high = wilson(metrics["accuracy"] * images, images)
        interval = f" (95 % interval {low:.1%} to {high:.1%})"
    value = f"{metrics[score.key]:{score.form}}"
    yield f"test {score.name}", f"{value} of {count(images, 'image')}{interval}"
    for each in others:
        if each.key in metrics:
            yield each.name, f"{metrics[each.key]:{each.form}}"
    macs = f", {in_units(cost.macs, 'MAC')} an image" if cost.macs else ""
    yield (
        "network",
        f"{recipe.model.name}, {make_plan(recipe.model).depth} layers deep, "
        f"{in_units(cost.params, 'param')}{macs}",
    )
    counts = ", ".join(f"{n:,} {name}" for name, n in data.counts.items())
    what = _HEADS.get(recipe.task, "Classes").lower()
    yield "data", f"{run.data['source']}, {data.classes} {what}; images: {counts}"
    yield "started from", run.data.get("weights") or f"seed {run.data['seed']}"
    seconds = sum(row["seconds"] for row in history)
    yield (
        "training",
        f"{count(len(history), 'epoch')} in {seconds:,.0f} s, recipe {recipe.name}",
    )
    environment = run.environment
    yield "on", f"{', '.join(environment['devices'])}, {environment['precision']}"


def _warnings(data: Splits) -> str:
    lines = [f"{count(n, 'image')}: {where}" for where, n in data.duplicates.items()]
    lines += [f"unreadable: {why}" for why in data.unreadable[:LISTED]]
    lines += data.notes
    return "".join(f'<p class="warning">{_text(line)}</p>' for line in lines)


# Of a class, label or value -> how its column is called and its numbers are written.
_COLUMNS = {
    "precision": ("precision", ".1%"),
    "recall": ("recall", ".1%"),
    "f1": ("F1", ".1%"),
    "average_precision": ("average precision", ".1%"),
    "support": ("images", "d"),
    "mae": ("MAE", ".4g"),
    "rmse": ("RMSE", ".4g"),
    "r2": ("R2", ".4f"),
}


def _per_class(evaluation: AnyEvaluation) -> str:
    rows = evaluation.per_class
    worst = "f1" if "f1" in rows[0] else "r2"
    columns = [key for key in _COLUMNS if key in rows[0]]
    return _table(
        [
            (
                row["class"],
                *(
                    "" if row[key] is None else f"{row[key]:{_COLUMNS[key][1]}}"
                    for key in columns
                ),
            )
            for row in sorted(rows, key=lambda row: row[worst])[:LISTED]
        ],
        ("the worst first", *(_COLUMNS[key][0] for key in columns)),
    )


def _mistakes(
    evaluation: AnyEvaluation, images: Sequence[np.ndarray], data: Splits
) -> str:
    paths = data.files.get("test", ())
    mistakes = [evaluation.mistake(i) for i in evaluation.worst]
    rows = "".join(
        f"<tr><td>{_thumbnail(image)}</td><td>is {_text(mistake.true)}"
        f"<br>taken for {_text(mistake.predicted)}, {_text(mistake.text)}</td>"
        f"<td>{_where(int(i), paths)}</td></tr>"
        for i, image, mistake in zip(evaluation.worst, images, mistakes, strict=True)
    )
    return f"<table>{rows}</table>" if rows else "<p>none</p>"


def _suspects(evaluation: AnyEvaluation, data: Splits) -> str:
    if not isinstance(evaluation, Evaluation):
        return ""
    names, paths = evaluation.class_names, data.files.get("test", ())
    return _table(
        [
            (
                _where(int(i), paths),
                names[evaluation.labels[i]],
                names[evaluation.predictions[i]],
            )
            for i in evaluation.suspects
        ],
        ("test image", "labelled", "looks like"),
    )


def _where(i: int, paths: Sequence[str]) -> str:
    return _text(paths[i]) if paths else f"test image {i}"


def _usage(run: Run) -> str:
    folder, name = shlex.quote(str(run.folder)), run.folder.resolve().name
    return _code(
        f"keras-resnet predict {folder} IMAGE...\n"
        f"keras-resnet evaluate {folder}\n"
        f"keras-resnet explain {folder} --image IMAGE\n"
        f"keras-resnet export {folder} --to {shlex.quote(f'models/{name}')}\n\n"
        f"# in Python: raw pixels, 0 to 255, in; out {TASKS[run.recipe.task].outputs}\n"
        "import keras, keras_resnet\n"
        f"model = keras.models.load_model({str(run.folder / BEST)!r})\n"
    )


def _figures(folder: Path, *names: str) -> str:
    found = [folder / name for name in names if (folder / name).exists()]
    return "".join(f"<p>{_image(path.read_bytes(), path.stem)}</p>" for path in found)


def _thumbnail(image: np.ndarray) -> str:
    pixels = image if image.shape[-1] in (3, 4) else image[..., 0]
    picture = Image.fromarray(pixels.astype("uint8"))
    scale = max(THUMBNAIL // max(picture.size), 1)  # small ones are made larger
    picture = picture.resize(
        (picture.width * scale, picture.height * scale), Image.Resampling.NEAREST
    )
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return _image(content.getvalue(), "")


def _image(content: bytes, name: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{_text(name)}" src="data:image/png;base64,{data}">'


def _table(rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> str:
    lines = ["".join(f"<td>{_text(cell)}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    heads = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    return (
        "<table>" + "".join(f"<tr>{row}</tr>" for row in (heads, *lines)) + "</table>"
    )


def _code(text: str) -> str:
    return f"<pre>{_text(text)}</pre>"


def _text(value: Any) -> str:
    return html.escape(value if isinstance(value, str) else json.dumps(value))
