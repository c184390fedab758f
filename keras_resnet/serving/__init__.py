"""Models for TF Serving."""

from keras_resnet.serving.saved_model import (
    ExportError,
    Served,
    export,
    is_saved_model,
    load,
)

__all__ = ["ExportError", "Served", "export", "is_saved_model", "load"]
