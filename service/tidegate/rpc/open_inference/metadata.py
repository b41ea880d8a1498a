"""What a client may ask of a model before its first request: names, types, shapes, and how it is served."""

from __future__ import annotations

from collections.abc import Sequence

from tidegate.config import ServerSettings
from tidegate.engine.pool import LoadedModel
from tidegate.model.manifest import InitialFile, InitialValue, Manifest, StatePair
from tidegate.oip import open_inference_pb2 as pb
from tidegate.rpc.open_inference.layouts import NAMES, TensorLayout, lay_out
from tidegate.tensor import DType

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
MODEL_FILE = "model.onnx"

ANY = -1
"""A size in a shape that may be any."""

_TYPES: dict[DType, pb.DataType.ValueType] = {d: pb.DataType.Value(f"TYPE_{NAMES[d]}") for d in DType}


def metadata(model: LoadedModel, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """What a version takes and gives.

    Args:
        model: The version.
        versions: Those of its model that are loaded.
    """
    layout = lay_out(model.manifest)
    return pb.ModelMetadataResponse(
        name=model.manifest.name,
        versions=versions,
        platform=PLATFORM,
        inputs=[_tensor(i) for i in layout.inputs],
        outputs=[_tensor(o) for o in layout.outputs],
    )


def configuration(model: LoadedModel, settings: ServerSettings) -> pb.ModelConfig:
    """How a version is served."""
    manifest, runner = model.manifest, model.runner
    layout = lay_out(manifest)
    kind = pb.ModelInstanceGroup.KIND_GPU if runner.device == "cuda" else pb.ModelInstanceGroup.KIND_CPU
    config = pb.ModelConfig(
        name=manifest.name,
        platform=PLATFORM,
        backend=BACKEND,
        version_policy=pb.ModelVersionPolicy(latest=pb.ModelVersionPolicy.Latest(num_versions=1)),
        max_batch_size=settings.max_frame_rows,
        input=[
            pb.ModelInput(name=i.name, data_type=_TYPES[i.spec.dtype], dims=(ANY, *i.step_shape))
            for i in layout.inputs
        ],
        output=[
            pb.ModelOutput(name=o.name, data_type=_TYPES[o.spec.dtype], dims=(ANY, *o.step_shape))
            for o in layout.outputs
        ],
        instance_group=[pb.ModelInstanceGroup(name=manifest.name, count=1, kind=kind)],
        default_model_filename=MODEL_FILE,
        model_transaction_policy=pb.ModelTransactionPolicy(decoupled=False),
    )
    facts = {
        "sha256": manifest.sha256,
        "batch_exactness": runner.batch_exactness.value,
        "cadence_s": f"{manifest.time.cadence_s:g}",
    }
    for name, value in facts.items():
        config.parameters[name].string_value = value
    _add_scheduling(config, manifest, settings)
    return config


def _add_scheduling(config: pb.ModelConfig, manifest: Manifest, settings: ServerSettings) -> None:
    if not manifest.states:
        config.dynamic_batching.max_queue_delay_microseconds = settings.max_queue_delay_us
        return
    batching = config.sequence_batching
    batching.max_sequence_idle_microseconds = int(settings.expire_after_s * 1e6)
    batching.oldest.max_candidate_sequences = settings.max_sessions
    batching.oldest.max_queue_delay_microseconds = settings.max_queue_delay_us
    batching.state.extend(_state(pair) for pair in manifest.states)


def _state(pair: StatePair) -> pb.ModelSequenceBatching.State:
    state = pb.ModelSequenceBatching.State(
        input_name=pair.input_name,
        output_name=pair.output_name,
        data_type=_TYPES[pair.dtype],
        dims=pair.step_shape,
    )
    is_other_number = isinstance(pair.initial, InitialValue) and pair.initial.value != 0
    if not is_other_number:
        initial = state.initial_state.add(
            name=pair.input_name, data_type=_TYPES[pair.dtype], dims=pair.step_shape
        )
        if isinstance(pair.initial, InitialFile):
            initial.data_file = pair.initial.file
        else:
            initial.zero_data = True
    return state


def _tensor(layout: TensorLayout) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(
        name=layout.name, datatype=layout.datatype, shape=(ANY, ANY, *layout.step_shape)
    )
