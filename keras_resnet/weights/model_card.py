"""A run's model card: what the network is, how it was trained, what it is worth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from keras_resnet.cost import estimate_cost
from keras_resnet.run import CONFUSION, CURVES, LABELS, VALUES, Run
from keras_resnet.tasks import ACCURACY, TASKS

NETWORK = "network.svg"
PICTURES = (CURVES, CONFUSION, LABELS, VALUES, "calibration.png")  # of a run
_Z = 1.96  # of a normal distribution, 95 % are within


def interval(accuracy: float, images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy on so many images (Wilson 1927)."""
    share = _Z**2 / images
    middle = (accuracy + share / 2) / (1 + share)
    half = _Z / (1 + share)
    half *= math.sqrt(accuracy * (1 - accuracy) / images + share / (4 * images))
    return middle - half, middle + half


def write(
    run: Run, repository: str, architecture: str | None, licence: str | None,
    pictures: Iterable[str],
) -> str:  # fmt: skip
    """The card in Markdown, with the hub's header.

    Args:
        run: a finished run.
        repository: OWNER/NAME.
        architecture: timm's name of the network, if it has one.
        licence: such as "apache-2.0", as given.
        pictures: files of pictures beside the card.
    """
    title = repository.rpartition("/")[2]
    parts = [
        _header(run, title, architecture, licence),
        f"# {title}\n",
        _network(run, architecture),
        _results(run),
        *(f"![{name.partition('.')[0]}]({name})\n" for name in pictures),
        _per_class(run),
        _training(run),
        _use(repository, architecture),
        f"## Licence\n\n{licence}\n" if licence else "",
    ]
    return "\n".join(part for part in parts if part)


def _header(run: Run, title: str, architecture: str | None, licence: str | None) -> str:
    """YAML, of which JSON is a part; so no name can break it."""
    result, task = run.result, run.recipe.task
    kind = "image-regression" if task == "regression" else "image-classification"
    score = TASKS[task].score.key
    fields = {
        "library_name": "timm" if architecture else "keras",
        "tags": [kind, "residual-network", "keras"]
        + ["multi-label"] * (task == "labels")
        + ["timm"] * bool(architecture),
        "license": licence,
        "metrics": [score],
        "model-index": [
            {
                "name": title,
                "results": [
                    {
                        "task": {"type": kind},
                        "dataset": {"name": _data(run), "type": _data(run)},
                        "metrics": [{"type": score, "value": result[f"test_{score}"]}],
                    }
                ],
            }
        ],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in fields.items() if value]
    return "---\n" + "\n".join(lines) + "\n---\n"


_NAMED = 20  # classes in a sentence


def _names(run: Run) -> str:
    names = run.data["class_names"] or []
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(f"`{name}`" for name in names[:_NAMED]) + more


def _data(run: Run) -> str:
    """Its source by its last name: a folder's path is nobody's business."""
    return str(run.data.get("source") or "arrays").rstrip("/").rpartition("/")[2]


def _network(run: Run, architecture: str | None) -> str:
    spec, task = run.recipe.model, run.recipe.task
    cost = estimate_cost(spec)
    macs = f", {cost.macs:,} multiply-adds an image" if cost.macs else ""
    named = f" It is timm's `{architecture}`." if architecture else ""
    return (
        f"{spec.name}: {list(spec.depths)} {spec.block} units on images of "
        f"{'x'.join(str(side or '?') for side in spec.input_shape)}; "
        f"{cost.params:,} trainable parameters{macs}.{named}\n\n"
        f"Task: {TASKS[task].target} (`{task}`): {_names(run)}. Pixels from 0 to 255 "
        f"go in; what comes out is {TASKS[task].outputs}.\n"
    )


def _results(run: Run) -> str:
    result = run.result
    images = int(result["test_images"])
    rows = []
    for each in TASKS[run.recipe.task].measures:
        if (value := result.get(f"test_{each.key}")) is None:
            continue
        text = f"{value:{each.form}}"
        if each is ACCURACY:
            low, high = interval(value, images)
            text += f" (95 %: {low:.2%} to {high:.2%})"
        rows.append((each.name, text))
    return f"## Results on {images:,} test images\n\n" + _table(("metric", ""), rows)


def _per_class(run: Run) -> str:
    path = run.folder / "report.json"
    if not path.exists():
        return ""
    report: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    classes = report["per_class"]
    numbers = [key for key in classes[0] if key not in ("class", "support")]
    rows = [
        (
            str(row["class"]).replace("|", "\\|"),
            *("" if row[n] is None else f"{row[n]:.3f}" for n in numbers),
        )
        for row in classes
    ]
    head = TASKS[run.recipe.task].each
    return f"### By {head}\n\n" + _table((head, *numbers), rows)


def _training(run: Run) -> str:
    recipe, data = run.recipe, run.data
    counts = data.get("counts", {})
    rows = [
        ("data", f"`{_data(run)}`"),
        ("fingerprint of the data", f"`{data.get('fingerprint')}`"),
        (
            "images",
            ", ".join(f"{counts[k]:,} {k}" for k in sorted(counts, reverse=True)),
        ),
        ("recipe", f"`{recipe.name}` (recipe.json)"),
        ("epochs, batch", f"{recipe.epochs}, {recipe.batch_size}"),
        ("optimizer", f"{recipe.optimizer}, rate {recipe.learning_rate:g}"),
        ("schedule", recipe.schedule),
        ("seed", str(data.get("seed"))),
    ]
    source = f"\n{recipe.source}\n" if recipe.source else ""
    return "## Training\n\n" + _table(("", ""), rows) + source


def _use(repository: str, architecture: str | None) -> str:
    keras_lines = f'''```python
import keras, keras_resnet
from huggingface_hub import hf_hub_download

model = keras.models.load_model(hf_hub_download("{repository}", "model.keras"))
```
'''
    timm_lines = f"""
```python
import timm

model = timm.create_model("hf_hub:{repository}", pretrained=True)  # normalized pixels
```
"""
    return "## Use\n\n" + keras_lines + (timm_lines if architecture else "")


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
