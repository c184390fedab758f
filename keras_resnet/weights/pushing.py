"""A run onto the Hugging Face Hub: for timm, for Keras, and for the eye."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_resnet import files
from keras_resnet.plan import make_plan
from keras_resnet.run import BEST, RECIPE, Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import dialects, hub, loading, model_card
from keras_resnet.weights.architectures import ARCHITECTURES
from keras_resnet.weights.origins import MODEL

CARD = "README.md"


def push(
    run: Path | str,
    repository: str,
    *,
    licence: str | None = None,
    private: bool = False,
    dry_run: Path | str | None = None,
) -> str:
    """Publishes a run's best model: for timm, for Keras, with a model card.

    The token is the hub client's own, of `hf auth login` or HF_TOKEN.

    Args:
        run: the folder of a finished run.
        repository: OWNER/NAME; made if it isn't there.
        licence: its name on the hub, such as "apache-2.0".
        private: whether a new repository is private.
        dry_run: a folder in which the files are left instead; it must not exist.

    Returns:
        The address of the repository, or the folder.

    Raises:
        RunFolderError: no run, or an unfinished one.
        WeightsError: no OWNER/NAME, a licence that the hub doesn't know, a folder that
            exists, or the hub refuses.
    """
    place = Path(run)
    hub.check_push(Run(place), repository, licence, dry_run)
    if dry_run is not None:
        target = Path(dry_run)
        with files.replacing(target) as temporary:
            temporary.mkdir()
            write_files(Run(place), repository, licence, temporary)
        return str(target)
    with tempfile.TemporaryDirectory() as folder:
        write_files(Run(place), repository, licence, Path(folder))
        return hub.upload(Path(folder), repository, private=private)


def write_files(run: Run, repository: str, licence: str | None, folder: Path) -> None:
    """Everything that a repository holds, into a folder."""
    from keras_resnet.analysis.diagrams import draw_plan

    spec = run.recipe.model
    shutil.copyfile(run.folder / BEST, folder / MODEL)
    shutil.copyfile(run.folder / RECIPE, folder / RECIPE)
    (folder / model_card.NETWORK).write_text(draw_plan(make_plan(spec)), "utf-8")
    pictures = [model_card.NETWORK]
    for name in model_card.PICTURES:
        if (run.folder / name).exists():
            shutil.copyfile(run.folder / name, folder / name)
            pictures.append(name)
    # timm's networks end in a dense layer, with no place for the scale of values.
    regression = run.recipe.task == "regression"
    architecture = None if regression else architecture_of(spec)
    if architecture:
        loading.save(run.load_model(), folder / hub.TENSORS, spec=spec)
        config = timm_config(run.data, spec, architecture, licence)
        (folder / hub.CONFIG).write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    card = model_card.write(run, repository, architecture, licence, pictures)
    (folder / CARD).write_text(card, "utf-8")


def architecture_of(spec: ResNetSpec) -> str | None:
    """timm's name of a network of any classes and images; None if it has none."""
    dialect = dialects.by_title("torchvision")
    if dialects.wrong_facts(spec, dialect) or spec.output_stride or spec.norm == "none":
        return None
    for name, changes in ARCHITECTURES.items():
        other = ResNetSpec(name=name, **changes)
        if not dialects.wrong_facts(other, dialect) and dialects.same_shapes(
            spec, other
        ):
            return name
    return None


def timm_config(
    data: Mapping[str, Any], spec: ResNetSpec, architecture: str, licence: str | None
) -> dict[str, Any]:
    """The config.json from which timm builds the network and prepares its images."""
    height, width, channels = data["image_shape"]
    mean, std = data["pixel_stats"]
    return {
        "architecture": architecture,
        "num_classes": spec.classes,
        "num_features": spec.outer_width(-1),
        "global_pool": "avg",
        # One logit stands for two classes, which timm doesn't know.
        **(
            {"label_names": list(data["class_names"])}
            if len(data["class_names"]) == spec.classes
            else {}
        ),
        "model_args": {"in_chans": channels, "num_classes": spec.classes},
        "pretrained_cfg": {
            "custom_load": False,
            "input_size": [channels, height, width],
            "fixed_input_size": False,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "mean": [value / 255 for value in mean],
            "std": [value / 255 for value in std],
            "num_classes": spec.classes,
            "pool_size": None,
            "first_conv": "conv1.0" if spec.stem == "deep" else "conv1",
            "classifier": "fc",
            **({"license": licence} if licence else {}),
        },
    }
