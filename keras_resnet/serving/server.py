"""Configuration of TF Serving, written beside a model's versions."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from pathlib import Path

from keras_resnet import files
from keras_resnet.errors import ExportError, ExportWarning, one_line
from keras_resnet.run import EXPORT

FOLDER = "server"
IMAGE = "tensorflow/serving"
GRPC, REST = 8500, 8501
POLL = 30  # seconds between looks at models.config


def versions(path: Path) -> list[int]:
    """The versions in a model's folder, the newest last."""
    return sorted(
        int(entry.name) for entry in path.glob("[0-9]*") if entry.name.isdigit()
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
        text_format.Parse(file.read_text(), config)
        [model] = config.model_config_list.config
    except (text_format.ParseError, ValueError) as error:
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
        if version not in there:
            raise ExportError(
                f"version: {path} has no {version} for {label!r}, only "
                f"{', '.join(map(str, there)) or 'none'}"
            )
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
