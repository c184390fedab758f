"""A model by its name, of a run folder, or of a file."""

from __future__ import annotations

from pathlib import Path

import keras

from keras_resnet import files
from keras_resnet.analysis.reference import REFERENCES, build_reference
from keras_resnet.errors import UserError
from keras_resnet.network import build
from keras_resnet.presets import get_spec
from keras_resnet.run import Run


def load_model(target: str | Path, image_size: int | None = None) -> keras.Model:
    """A model by its name, of a run folder, or of a `.keras` file.

    Args:
        target: a preset or one of `reference.REFERENCES`, with random weights; or the
            path of a run (its best model) or of a model file.
        image_size: side in pixels of a preset's images; others have their own.

    Raises:
        UserError: none of these, damaged, or a size for a network of features.
    """
    path = Path(target)
    if str(target) in REFERENCES:
        return build_reference(str(target))
    if path.is_dir():
        run = Run(path)
        model: keras.Model = run.load_model()
        run.warn_unfinished()
        return model
    if path.suffix == ".keras":
        try:
            return files.load_keras(path)
        except ValueError as error:
            raise UserError(f"model: can't load {path}: {error}") from None
    spec = get_spec(str(target))
    return build(spec, input_shape=spec.image_shape(image_size))
