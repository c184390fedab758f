"""What weights are named by: a published name, the hub's, a run folder, a file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from keras_resnet.errors import WeightsError
from keras_resnet.run import BEST, Run
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import descriptions, hub, keras_files, torch_files
from keras_resnet.weights.descriptions import Described
from keras_resnet.weights.hub import Repository
from keras_resnet.weights.zoo import PUBLISHED, Published, closest

MODEL = "model.keras"  # in a repository of ours
TORCH = (torch_files.SAFETENSORS, *torch_files.PICKLES)
SUFFIXES = (*keras_files.SUFFIXES, *TORCH)


def is_torch(path: Path) -> bool:
    """Whether a file holds a state dict, by its name."""
    return path.name.lower().endswith(TORCH)


@dataclasses.dataclass(frozen=True)
class Source:
    """Where weights are.

    Attributes:
        name: as it was given.
        published: whose they are, if a publisher's.
        repository: where on the hub they are, if it was named.
        run: the run whose best model they are.
    """

    name: str
    published: Published | None = None
    repository: Repository | None = None
    run: Run | None = None

    @cached_property
    def described(self) -> Described | None:
        """The network, and how images are prepared for it, if a publisher tells.

        Raises:
            WeightsError: the repository can't be read, or its network not expressed.
        """
        if self.published:
            return self.published.describe()
        if self.repository and self.repository.has(hub.CONFIG):
            return descriptions.describe(self.repository)
        return None

    @cached_property
    def file(self) -> Path:
        """The file, fetched if it has to be.

        Raises:
            UserError: it can't be had, or the run has no model yet.
        """
        if self.published:
            return self.published.fetch()
        if self.repository:
            name = hub.TENSORS if self.described else MODEL
            return self.repository.fetch(name)
        if self.run:
            self.run.check_trained()
            return self.run.folder / BEST
        return Path(self.name)

    @property
    def pixel_stats(self) -> tuple[Sequence[float], Sequence[float]] | None:
        """Mean and deviation of each channel that the network normalizes by, if known.

        Raises:
            UserError: it can't be read.
        """
        if self.described:
            return self.described.mean, self.described.std
        if self.run:
            self.run.check_trained()
            mean, std = self.run.data["pixel_stats"]
            return mean, std
        name = self.file.name.lower()
        if name.endswith(keras_files.SUFFIXES):
            return keras_files.read_pixel_stats(self.file)
        if name.endswith(torch_files.SAFETENSORS):
            return torch_files.read_pixel_stats(self.file)
        return None

    @property
    def spec(self) -> ResNetSpec | None:
        """The network that they are of, if that is known.

        Raises:
            UserError: it can't be read.
        """
        if self.described:
            return self.described.spec
        if self.run is None:
            return None
        self.run.check_trained()
        return self.run.recipe.model


def find(source: Path | str) -> Source:
    """What a source is; nothing is fetched or read.

    Raises:
        WeightsError: none of these.
    """
    name, path = str(source), Path(source)
    if row := PUBLISHED.get(name):
        return Source(name, published=row)
    if (path / hub.TENSORS).is_file() and not (path / BEST).is_file():
        raise WeightsError(
            f"weights: {path} is made for the hub; name {path / hub.TENSORS}"
        )
    if path.is_dir():
        return Source(name, run=Run(path))
    if path.name == BEST and Run(path.parent).exists:
        return Source(name, run=Run(path.parent))
    if path.name.lower().endswith(SUFFIXES):
        if not path.exists():
            raise WeightsError(f"weights: file {path} doesn't exist")
        return Source(name)
    if path.exists():
        raise WeightsError(
            f"weights: {path} is neither a run folder nor a {', '.join(SUFFIXES)} file"
        )
    if repository := hub.parse(name):
        return Source(name, repository=repository)
    raise WeightsError(
        f"weights: {name} is no file, run folder or published name{closest(name)}"
    )
