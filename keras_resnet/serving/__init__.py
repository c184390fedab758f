"""Models for TF Serving."""

from keras_resnet.serving.saved_model import (
    ExportError,
    export,
    is_saved_model,
    load_signature,
)

__all__ = ["ExportError", "export", "is_saved_model", "load_signature"]
