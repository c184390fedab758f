"""What weights are named by: a published name, a run folder, a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from keras_resnet.errors import WeightsError
from keras_resnet.presets import get_spec
from keras_resnet.run import BEST, Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights.formats import KERAS, TORCH
from keras_resnet.weights.zoo import PUBLISHED, Published, closest


class Source(NamedTuple):
    """Where weights are.

    Attributes:
        name: as it was given.
        published: whose they are, if a publisher's.
        run: the run whose best model they are.
    """

    name: str
    published: Published | None = None
    run: Run | None = None

    def file(self) -> Path:
        """The file, fetched if it has to be.

        Raises:
            UserError: it can't be had, or the run has no model yet.
        """
        if self.published:
            return self.published.fetch()
        if self.run:
            self.run.check_trained()
            return self.run.folder / BEST
        return Path(self.name)

    def spec(self) -> ResNetSpec | None:
        """The network that they are of, if that is known.

        Raises:
            UserError: the run has no model yet, or its recipe can't be read.
        """
        if self.published:
            return get_spec(self.published.preset)
        if self.run is None:
            return None
        self.run.check_trained()
        return self.run.recipe.model


def find(source: Path | str) -> Source:
    """What a source is; nothing is fetched or read.

    Raises:
        WeightsError: none of the three.
    """
    name, path = str(source), Path(source)
    if row := PUBLISHED.get(name):
        return Source(name, published=row)
    if path.is_dir():
        return Source(name, run=Run(path))
    if path.name == BEST and Run(path.parent).exists:
        return Source(name, run=Run(path.parent))
    if path.suffix in (*KERAS, *TORCH):
        if not path.exists():
            raise WeightsError(f"weights: file {path} doesn't exist")
        return Source(name)
    if path.exists():
        raise WeightsError(
            f"weights: {path} is neither a run folder nor a "
            f"{', '.join((*KERAS, *TORCH))} file"
        )
    raise WeightsError(
        f"weights: {name} is no file, run folder or published name{closest(name)}"
    )
