"""Files of the Hugging Face Hub, by the hub's own client, and what they are of.

The client keeps them in its cache, continues broken downloads, and heeds HF_ENDPOINT,
HF_HUB_OFFLINE, HF_HUB_CACHE and HF_TOKEN. Here their hash is checked too.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from keras_resnet.errors import RunFolderError, WeightsError, one_line
from keras_resnet.run import Run
from keras_resnet.weights import architectures

PREFIX = "hf:"
CONFIG = "config.json"
TENSORS = "model.safetensors"
TIMEOUT = 10  # seconds without an answer

# As the hub spells them in a model card's metadata (huggingface.co/docs/hub, Licenses),
# from memory.
LICENCES = (
    "afl-3.0", "agpl-3.0", "apache-2.0", "apple-amlr", "apple-ascl", "artistic-2.0",
    "bigcode-openrail-m", "bigscience-bloom-rail-1.0", "bigscience-openrail-m", "bsd",
    "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "bsl-1.0", "c-uda", "cc",
    "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0",
    "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0",
    "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "cdla-sharing-1.0", "creativeml-openrail-m", "deepfloyd-if-license", "ecl-2.0",
    "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "eupl-1.2",
    "fair-noncommercial-research-license", "gemma", "gfdl", "gpl", "gpl-2.0", "gpl-3.0",
    "grok2-community", "h-research", "intel-research", "isc", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "lgpl-lr", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3",
    "llama4", "lppl-1.3c", "mit", "mpl-2.0", "ms-pl", "ncsa", "odbl", "odc-by",
    "ofl-1.1", "openmdw-1.0", "openrail", "openrail++", "osl-3.0", "other", "pddl",
    "postgresql", "unknown", "unlicense", "wtfpl", "zlib",
)  # fmt: skip

_NAME = re.compile(r"[\w.-]+/[\w.-]+")


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
        why = f"{hub} can't be reached ({one_line(error)})"
        if constants.HF_HUB_OFFLINE:
            why = "HF_HUB_OFFLINE is set"
        return (
            f"weights: {self} {file} is not in the hub's cache, and {why}; where there "
            "is a network, run `hf download "
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


def check_push(
    run: Run, repository: str, licence: str | None, dry_run: Path | str | None
) -> None:
    """Refuses what can't be pushed.

    Raises:
        RunFolderError: no run, or an unfinished one.
        WeightsError: no OWNER/NAME, a licence that the hub doesn't know, or a folder
            that exists.
    """
    if not is_name(repository):
        raise WeightsError(f"repository: {repository!r} is not OWNER/NAME")
    if licence is not None and licence not in LICENCES:
        near = difflib.get_close_matches(licence.lower(), LICENCES, n=3, cutoff=0.5)
        raise WeightsError(
            f"licence: {licence!r} is not one that the hub knows"
            + (f"; closest: {', '.join(near)}" if near else ", such as apache-2.0")
            + "; or other"
        )
    run.check_trained()
    if not run.is_finished:
        raise RunFolderError(
            f"run: {run.folder} is unfinished: its card would have no test results; "
            "train it to its end"
        )
    if dry_run is not None and Path(dry_run).exists():
        raise WeightsError(f"folder: {dry_run} exists; name a new folder")


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
