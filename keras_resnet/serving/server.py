"""Configuration of TF Serving, written beside a model's versions."""

from __future__ import annotations

import shlex
import socket
import warnings
from collections.abc import Mapping
from pathlib import Path

from keras_resnet import files
from keras_resnet.errors import ExportError, ExportWarning, one_line
from keras_resnet.limits import read_text
from keras_resnet.run import EXPORT, Run
from keras_resnet.serving import runtimes

FOLDER = "server"
IMAGE = "tensorflow/serving"
GRPC, REST = 8500, 8501
HOST = "127.0.0.1"  # where a model is tried out
POLL = 30  # seconds between looks at models.config


def versions(path: Path) -> list[int]:
    """The versions in a model's folder, the newest last."""
    return sorted(
        int(entry.name) for entry in path.glob("[0-9]*") if entry.name.isdigit()
    )


def find_versions(path: Path) -> tuple[Path, int | None]:
    """A model's folder, and the only version that is meant, if one is.

    Args:
        path: a model's folder, a version's, or a run's.

    Raises:
        ExportError: no SavedModel is there; a file of another format says what serves
            it.
    """
    form = runtimes.format_of(path)
    if form not in (None, "saved_model"):
        raise ExportError(
            f"model: {path} is of {form}, which {runtimes.FORMATS[form].server} "
            "serves; here only SavedModels are"
        )
    if Run(path).exists:
        path = path / EXPORT
    folder = path.parent if form else path
    only = int(path.name) if form and path.name.isdigit() else None
    if not saved_versions(folder, only):
        raise ExportError(f"model: {path} holds no SavedModel; export one there")
    return folder, only


def saved_versions(folder: Path, only: int | None = None) -> list[int]:
    """SavedModels among the versions in a model's folder, the newest last."""
    found = [each for each in versions(folder) if is_saved_model(folder / str(each))]
    return [each for each in found if only in (None, each)]


def check_ports(rest: int, grpc: int) -> None:
    """Refuses ports that can't be listened on.

    Raises:
        ExportError: one is taken, or both are one.
    """
    if rest and rest == grpc:
        raise ExportError(f"rest-port: {rest} is that of gRPC too; name another")
    for field, port in (("rest-port", rest), ("grpc-port", grpc)):
        try:
            socket.create_server((HOST, port)).close()
        except OSError as error:
            raise ExportError(
                f"{field}: {port} can't be listened on: {error.strerror}"
            ) from None


def free_version(path: Path, version: int | None = None) -> int:
    """The next free version of a model's folder, or the one that is asked for.

    Raises:
        ExportError: it is taken, or no version.
    """
    existing = [*versions(path)]
    for name in runtimes.FORMATS:
        existing += versions(path / name)
    if version is None:
        version = max(existing, default=0) + 1
    if type(version) is not int or version < 1:
        raise ExportError(f"version: {version!r} is not a positive integer")
    if version in existing:
        raise ExportError(f"version: {path / str(version)} exists; name a higher one")
    return version


def check_ended(run: Run) -> None:
    """Refuses to export a run that hasn't ended.

    Raises:
        ExportError: it hasn't.
    """
    if progress := run.unfinished:
        raise ExportError(
            f"run: {run.folder} is unfinished, at {progress}; let it end, or "
            "export its best model so far by unfinished=True (--unfinished)"
        )


def check_label(path: Path, label: str, version: int | None = None) -> None:
    """Refuses a label, or a version for it, that can't be.

    Raises:
        ExportError: it is no word, the folder is a file, or the version isn't there.
    """
    if not label or not label.replace("-", "").replace("_", "").isalnum():
        raise ExportError(f"alias: {label!r} is not a word")
    files.check_folder(path, "folder")
    there = versions(path)
    if version is not None and version not in there:
        raise ExportError(
            f"version: {path} has no {version} for {label!r}, only "
            f"{', '.join(map(str, there)) or 'none'}"
        )


def name_of(path: Path) -> str:
    """The name by which a model's folder is served: its own, or its run's."""
    path = path.resolve()
    return path.parent.name if path.name == EXPORT else path.name


def is_saved_model(path: Path) -> bool:
    """Whether `path` is a SavedModel's folder."""
    return (path / "saved_model.pb").is_file()


def labels_of(path: Path) -> dict[str, int]:
    """The labels of versions, as `models.config` has them.

    Raises:
        ExportError: it is damaged.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    file = path / FOLDER / "models.config"
    if not file.exists():
        return {}
    config = model_server_config_pb2.ModelServerConfig()
    try:
        text_format.Parse(read_text(file), config)
        [model] = config.model_config_list.config
    except (text_format.ParseError, OSError, ValueError) as error:
        reason = one_line(error)
        raise ExportError(f"path: can't read {file}: {reason}") from None
    return dict(model.version_labels)


def configure(path: Path, changes: Mapping[str, int] | None = None) -> None:
    """Writes `server/` anew: models, batching and monitoring, and a compose file.

    The newest version is served and, beside it, those that have a label.

    Args:
        path: the model's folder.
        changes: labels to set, with their versions. The others stay, but for those
            whose version has been removed, which a warning names.

    Raises:
        ExportError: a label's version is not there.
    """
    there = versions(path)
    changes = dict(changes or {})
    labels = labels_of(path) | changes
    gone = sorted(
        label
        for label, version in labels.items()
        if version not in there and label not in changes
    )
    if gone:
        warnings.warn(
            f"{path}: the version of {', '.join(gone)} is gone; it has none now",
            ExportWarning,
            stacklevel=2,
        )
        labels = {k: v for k, v in labels.items() if k not in gone}
    for label, version in changes.items():
        check_label(path, label, version)
    name, folder = name_of(path), path / FOLDER
    batch = _largest_batch(path, there)
    folder.mkdir(exist_ok=True)
    served = sorted({*labels.values(), *there[-1:]}) if labels else []
    texts = {
        "models.config": _models(name, labels, served),
        "batching.config": BATCHING.format(batch=batch, sizes=_sizes(batch)),
        "monitoring.config": MONITORING,
        "compose.yaml": COMPOSE.format(
            mount=_yaml(f"/models/{name}"),
            arguments=", ".join(map(_yaml, arguments(name))),
        ),
    }
    for file, text in texts.items():
        files.write_text(folder / file, text)


def _yaml(text: str) -> str:
    """A string of YAML, in quotes, in which compose finds no variables."""
    import yaml

    dumped: str = yaml.safe_dump(text, default_style='"', width=float("inf"))
    return dumped.strip().replace("$", "$$")


def _models(name: str, labels: Mapping[str, int], served: list[int]) -> str:
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    config = model_server_config_pb2.ModelServerConfig()
    model = config.model_config_list.config.add(
        name=name, base_path=f"/models/{name}", model_platform="tensorflow"
    )
    model.model_version_policy.specific.versions.extend(served)
    if not served:
        model.ClearField("model_version_policy")
    model.version_labels.update(labels)
    return str(text_format.MessageToString(config))


def _largest_batch(path: Path, there: list[int]) -> int:
    """The largest batch that all versions take."""
    sizes = [
        files.read_json(file)["max_batch"]
        for version in there
        if (file := path / str(version) / "assets" / "model.json").exists()
    ]
    return min(sizes, default=1)


def _sizes(batch: int) -> str:
    """Powers of two up to a batch: each is one more form of the graph to warm up."""
    sizes = [2**i for i in range(batch.bit_length())]
    return "\n".join(f"allowed_batch_sizes: {size}" for size in sizes)


def arguments(name: str) -> list[str]:
    """Those of the server."""
    folder = f"/models/{name}/{FOLDER}"
    return [
        f"--model_config_file={folder}/models.config",
        f"--model_config_file_poll_wait_seconds={POLL}",
        f"--monitoring_config_file={folder}/monitoring.config",
        "--allow_version_labels_for_unavailable_models=true",
    ]


def docker_line(path: Path) -> str:
    """A command that serves a model's folder."""
    name = name_of(path)
    return (
        f"docker run --rm -p {GRPC}:{GRPC} -p {REST}:{REST} "
        f"-v {shlex.quote(f'{path.resolve()}:/models/{name}:ro')} {IMAGE} "
        + " ".join(map(shlex.quote, arguments(name)))
    )


BATCHING = """\
# For servers that take pixels alone: with --enable_batching=true and
# --batching_parameters_file=.../batching.config, requests of several callers are
# computed together. A broken image among image_bytes would then fail all of them: so
# neither compose.yaml nor the printed command switches it on.
max_batch_size {{ value: {batch} }}
batch_timeout_micros {{ value: 2000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 4 }}
{sizes}
"""

MONITORING = """\
prometheus_config { enable: true, path: "/monitoring/prometheus/metrics" }
"""

COMPOSE = """\
# docker compose --profile cpu up    or    docker compose --profile gpu up
name: serving
services:
  cpu: &serving
    profiles: [cpu]
    image: ${{TF_SERVING_IMAGE:-tensorflow/serving}}
    ports: ["8500:8500", "8501:8501"]
    volumes: [{{type: bind, source: .., target: {mount}, read_only: true}}]
    command: [{arguments}]
    restart: unless-stopped
  gpu:
    <<: *serving
    profiles: [gpu]
    image: ${{TF_SERVING_IMAGE:-tensorflow/serving:latest-gpu}}
    deploy:
      resources:
        reservations:
          devices: [{{driver: nvidia, count: all, capabilities: [gpu]}}]
"""
