"""Files of the Hugging Face Hub, by the hub's own client, and what they are of.

The client keeps them in its cache, continues broken downloads, and heeds HF_ENDPOINT,
HF_HUB_OFFLINE, HF_HUB_CACHE and HF_TOKEN. Here their hash is checked too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet import files
from keras_resnet.errors import SpecError, UserError, WeightsError, one_line
from keras_resnet.spec import ResNetSpec
from keras_resnet.weights import architectures

PREFIX = "hf:"
CONFIG = "config.json"
TENSORS = "model.safetensors"
TIMEOUT = 10  # seconds without an answer

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
# Arguments of timm's networks that change nothing in inference.
_IDLE = ("drop_rate", "drop_path_rate", "drop_block_rate", "zero_init_last", "img_size")


class _MissingFileError(WeightsError):
    """A file that a repository doesn't have."""


class Repository(NamedTuple):
    """A model's files on the hub.

    Attributes:
        name: OWNER/NAME.
        revision: a branch, tag or commit; None is the hub's main one.
    """

    name: str
    revision: str | None = None

    def __str__(self) -> str:
        return PREFIX + self.name + (f"@{self.revision}" if self.revision else "")

    def fetch(self, file: str) -> Path:
        """A file's place in the hub's cache, downloaded unless it is there.

        Raises:
            WeightsError: it can't be had, or is another file than the hub says.
        """
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import RemoteEntryNotFoundError

        try:
            cached = self._check_reachable(file)
            path = Path(
                hf_hub_download(
                    self.name, file, revision=self.revision, local_files_only=cached
                )
            )
        except RemoteEntryNotFoundError:
            raise _MissingFileError(f"weights: {self} has no file {file}") from None
        except _errors() as error:
            raise WeightsError(self._reason(file, error)) from None
        _check_hash(path, f"{self} {file}")
        return path

    def has(self, file: str) -> bool:
        """Whether a file is there.

        Raises:
            WeightsError: the repository can't be asked.
        """
        try:
            self.fetch(file)
        except _MissingFileError:
            return False
        return True

    def _check_reachable(self, file: str) -> bool:
        """Whether only the cache can be used. The client itself would try for long."""
        from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

        if constants.HF_HUB_OFFLINE:
            return True
        url = hf_hub_url(self.name, file, revision=self.revision)
        try:
            get_hf_file_metadata(url, timeout=TIMEOUT)
        except _errors() as error:
            from huggingface_hub import try_to_load_from_cache

            held = try_to_load_from_cache(self.name, file, revision=self.revision)
            denied = isinstance(error, GatedRepoError) or (
                isinstance(error, HfHubHTTPError)
                and error.response.status_code in (401, 403, 404)
            )
            if denied or not isinstance(held, str):
                raise
            return True
        return False

    def _reason(self, file: str, error: Exception) -> str:
        """One line of what went wrong, and what to do."""
        from huggingface_hub import constants, errors

        hub = constants.ENDPOINT
        if isinstance(error, errors.GatedRepoError):
            return (
                f"weights: {self} is gated: ask for access at {hub}/{self.name}, and "
                "log in by `hf auth login`, or give a token in HF_TOKEN"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return (
                f"weights: {hub} has no {self.name}, or it is private and needs a "
                "token (`hf auth login`, or HF_TOKEN)"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return f"weights: {self}: {self.name} has no revision {self.revision!r}"
        if isinstance(error, errors.HfHubHTTPError):
            code = error.response.status_code
            advice = {
                401: "log in by `hf auth login`, or give a valid token in HF_TOKEN",
                429: "too many requests; wait a little, or log in (`hf auth login`)",
            }
            return (
                f"weights: can't download {self} {file}: {hub} answers {code}: "
                f"{advice.get(code, 'try again later')}"
            )
        folder = f"models--{self.name.replace('/', '--')}"
        if isinstance(error, OSError) and "Consistency check" in str(error):
            return (
                f"weights: the download of {self} {file} ended too early; try again, "
                "and it is continued"
            )
        return (
            f"weights: {self} {file} is not in the hub's cache, and {hub} can't be "
            f"reached ({one_line(error)}); where there is a network, run `hf download "
            f"{self.name} {CONFIG} {TENSORS}`, and copy the folder {folder} to "
            f"{constants.HF_HUB_CACHE}"
        )


def _errors() -> tuple[type[Exception], ...]:
    """What the client raises."""
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    transport = HfHubHTTPError.__mro__[1]  # of the client that it uses for HTTP
    return transport, EntryNotFoundError, OSError, ValueError


def _check_hash(path: Path, name: str) -> None:
    """Compares a file with its SHA-256, by which the cache names what is large."""
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return
    with blob.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != blob.name:
        blob.unlink()
        raise WeightsError(
            f"weights: {name} is not the file that the hub names (its SHA-256 is "
            f"{digest[:8]}..., not {blob.name[:8]}...); it is deleted, try again"
        )


def parse(source: str) -> Repository | None:
    """The repository that a source names: hf:OWNER/NAME[@REVISION], or timm/NAME.

    Raises:
        WeightsError: what follows hf: is no name, or timm's is a network that no spec
            expresses.
    """
    if source.startswith(PREFIX):
        name, _, revision = source.removeprefix(PREFIX).partition("@")
        if not _NAME.fullmatch(name):
            raise WeightsError(
                f"weights: {source!r} is not {PREFIX}OWNER/NAME or "
                f"{PREFIX}OWNER/NAME@REVISION"
            )
        return Repository(name, revision or None)
    name, _, revision = source.partition("@")
    if re.fullmatch(r"timm/[\w.-]+", name):
        # Known before a network is asked.
        architectures.spec_of(name[len("timm/") :].partition(".")[0], source)
        return Repository(name, revision or None)
    return None


def is_name(repository: str) -> bool:
    """Whether it is OWNER/NAME."""
    return bool(_NAME.fullmatch(repository))


def upload(folder: Path, repository: str, *, private: bool) -> str:
    """Sends a folder's files in one commit; the repository is made if it isn't there.

    Returns:
        Its address.

    Raises:
        WeightsError: the hub refuses, or can't be reached.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi()
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(
            folder_path=folder, repo_id=repository, commit_message="Model and card"
        )
    except _errors() as error:
        reason = one_line(error)
        if isinstance(error, LocalTokenNotFoundError):
            reason = "there is no token"
        elif isinstance(error, HfHubHTTPError):
            reason = f"it answers {error.response.status_code}"
        raise WeightsError(
            f"push: can't send {repository} to {constants.ENDPOINT}: {reason}; log in "
            "by `hf auth login`, or give a token that may write in HF_TOKEN"
        ) from None
    return f"{constants.ENDPOINT}/{repository}"


class Described(NamedTuple):
    """What a repository's config.json says of its network.

    Attributes:
        spec: the network, with its classes and the size that it is judged at.
        mean: of red, green and blue, in raw pixels.
        std: the same.
        resize: length of the shorter side that the crop is taken from.
        interpolation: how it is resized.
        class_names: where the publisher tells them.
        bgr: whether the network was trained on blue, green, red.
    """

    spec: ResNetSpec
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    interpolation: str
    class_names: tuple[str, ...] | None
    bgr: bool = False

    @property
    def size(self) -> int:
        """Side of the images, in pixels."""
        return int(self.spec.input_shape[0] or 0)


def describe(repository: Repository) -> Described:
    """Reads the config.json of a repository of timm's.

    Raises:
        WeightsError: it can't be had, or is of a network that no spec expresses.
    """
    path = repository.fetch(CONFIG)
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"weights: {repository}: its {CONFIG} is not JSON: {error}"
        ) from None
    return described(config, str(repository))


def described(config: Mapping[str, Any], source: str) -> Described:
    """What timm's config.json says.

    Raises:
        WeightsError: a network that no spec expresses, or no config of timm's.
    """
    try:
        with files.reading():
            return _read_config(config, source)
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise WeightsError(
            f"weights: {source}: its {CONFIG} is not whole: {error}"
        ) from None


def _read_config(config: Mapping[str, Any], source: str) -> Described:
    given = config.get("pretrained_cfg", config)
    architecture = config.get("architecture", given.get("architecture"))
    if not isinstance(architecture, str):
        kind = config.get("model_type")
        whose = f"transformers' {kind}" if kind else "none of timm's"
        raise WeightsError(
            f"weights: {source}: its {CONFIG} names no architecture of timm's ({whose})"
        )
    spec = architectures.spec_of(architecture, source)
    return _described(spec, config, given, source)


def _described(
    spec: ResNetSpec, config: Mapping[str, Any], given: Mapping[str, Any], source: str
) -> Described:
    arguments = dict(config.get("model_args", {}))
    channels, height, width = given.get("test_input_size") or given["input_size"]
    crop = given.get("test_crop_pct") or given.get("crop_pct") or 1
    changes: dict[str, Any] = {
        "input_shape": (height, width, arguments.pop("in_chans", channels)),
        "classes": arguments.pop("num_classes", None) or _classes(config, given),
    }
    if "output_stride" in arguments:
        stride = arguments.pop("output_stride")
        changes["output_stride"] = None if stride == 32 else stride
    other = [
        name for name, value in arguments.items()
        if name not in _IDLE and (name, value) != ("global_pool", "avg")
    ]  # fmt: skip
    if other:
        raise WeightsError(
            f"weights: {source} is a {spec.name} with {', '.join(sorted(other))}, "
            "which no spec expresses"
        )
    try:
        spec = spec.replace(**changes)
    except SpecError as error:
        raise WeightsError(f"weights: {source}: {error}") from None
    return Described(
        spec,
        tuple(255 * float(value) for value in given["mean"]),
        tuple(255 * float(value) for value in given["std"]),
        round(height / crop),
        given.get("interpolation", "bicubic"),
        _names(config, given),
    )


def _classes(config: Mapping[str, Any], given: Mapping[str, Any]) -> int:
    """Of a network without classifier, whose number is 0, as many as ImageNet's."""
    return config.get("num_classes", given.get("num_classes")) or 1000


def _names(
    config: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[str, ...] | None:
    """Names of the classes, spelled out where they are described."""
    names: Sequence[str] | Mapping[str, str] | None
    names = config.get("label_names") or given.get("label_names")
    if not names:
        return None
    if isinstance(names, Mapping):  # by index
        names = [names[index] for index in sorted(names, key=int)]
    told = config.get("label_descriptions") or given.get("label_descriptions") or {}
    return tuple(str(told.get(name, name)) for name in names)
