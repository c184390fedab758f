"""TF Serving's gRPC of a local server: predictions, and what models are."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import grpc
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from keras_resnet.errors import one_line
from keras_resnet.serving.servables import DEFAULT, Models, Refusal, spec_of

SIGNATURES = "signature_def"  # the only kind of metadata that there is


def add_services(models: Models, server: grpc.Server) -> None:
    """Has a server answer requests for the models."""
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _Prediction(models), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_Status(models), server)


@contextlib.contextmanager
def _refusing(context: Any) -> Iterator[None]:
    """What is refused ends in a status of gRPC."""
    try:
        yield
    except Refusal as refusal:
        context.abort(getattr(grpc.StatusCode, refusal.code), refusal.reason)
    except (TypeError, ValueError) as error:  # of tensors that are none
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, one_line(error))


class _Status(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]  # untyped
    def __init__(self, models: Models) -> None:
        self.models = models

    def GetModelStatus(self, request: Any, context: Any) -> Any:
        with _refusing(context):
            return self.models.status(request.model_spec)


class _Prediction(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]  # untyped
    def __init__(self, models: Models) -> None:
        self.models = models

    def Predict(self, request: Any, context: Any) -> Any:
        with _refusing(context):
            name = request.model_spec.signature_name or DEFAULT
            version = self.models.load(request.model_spec)
            inputs = {
                key: tf.make_ndarray(each) for key, each in request.inputs.items()
            }
            found = version.run(name, inputs, list(request.output_filter))
            response = predict_pb2.PredictResponse(
                model_spec=spec_of(self.models.name, version.number, signature=name)
            )
            for key, value in found.items():
                values = value.tolist() if value.dtype == object else value
                tensor = tf.make_tensor_proto(values, shape=value.shape)
                response.outputs[key].CopyFrom(tensor)
            return response

    def GetModelMetadata(self, request: Any, context: Any) -> Any:
        with _refusing(context):
            if not request.metadata_field:
                raise Refusal(
                    "INVALID_ARGUMENT",
                    "GetModelMetadataRequest must specify at least one metadata_field",
                )
            for field in request.metadata_field:
                if field != SIGNATURES:
                    raise Refusal(
                        "INVALID_ARGUMENT", f"Metadata field {field} is not supported"
                    )
            spec, signatures = self.models.metadata(request.model_spec)
            response = get_model_metadata_pb2.GetModelMetadataResponse(model_spec=spec)
            response.metadata[SIGNATURES].Pack(signatures)
            return response

    def Classify(self, request: Any, context: Any) -> Any:
        with _refusing(context):
            refuse_method(self.models, request.model_spec, "classify")

    def Regress(self, request: Any, context: Any) -> Any:
        with _refusing(context):
            refuse_method(self.models, request.model_spec, "regress")


def refuse_method(models: Models, spec: Any, method: str) -> None:
    """Signatures take tensors, not tf.Examples, of which these methods are.

    Raises:
        Refusal: always.
    """
    there = models.load(spec).signature(spec.signature_name).method_name
    kind = {"classify": "classification", "regress": "regression"}[method]
    raise Refusal(
        "INVALID_ARGUMENT",
        f"Expected {kind} signature method_name to be "
        f"tensorflow/serving/{method}. Was: {there}",
    )
