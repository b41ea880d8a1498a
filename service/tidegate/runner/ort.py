"""The one place that makes ONNX Runtime sessions.

Denormals: ONNX Runtime's flush-to-zero setting reaches the thread that makes the first session of the
process and the threads started from it later, no others. A decaying state reaches denormal numbers,
so its answers would depend on the thread that computes them. `treat_denormals_as_zero()` therefore
makes a first session of one node; call it in the main thread before any other thread exists.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from tidegate.errors import DeviceUnavailable, PackageError

log = logging.getLogger(__name__)

Device = Literal["cpu", "cuda"]

PROVIDERS: dict[Device, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

# y = Identity(x), float32 [1], opset 17: the smallest model that makes a session.
_IDENTITY = (
    b'\x08\x08\x12\x00:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)

_SEVERITY: dict[Device, int] = {"cpu": 4, "cuda": 3}
"""ONNX Runtime's log severity: on the CPU every error is raised as well, so only fatal ones are logged;
why a CUDA provider does not start stands in the log alone."""


def treat_denormals_as_zero() -> None:
    """Fix the handling of denormals for this thread and all threads started from it later."""
    ort.InferenceSession(_IDENTITY, _options("cpu", threads=1), providers=[PROVIDERS["cpu"]])


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """The device that models will run on; `auto` is CUDA where a session starts on it.

    Raises:
        DeviceUnavailable: CUDA is asked for and this ONNX Runtime cannot use it.
    """
    cuda_is_there = PROVIDERS["cuda"] in ort.get_available_providers()
    if wanted == "cuda" and not cuda_is_there:
        raise DeviceUnavailable(
            f"--device cuda: ONNX Runtime {ort.__version__} has no CUDA provider, only "
            f"{', '.join(ort.get_available_providers())}: install 'tidegate[gpu]' or use --device cpu"
        )
    if wanted == "cpu" or not cuda_is_there:
        return "cpu"
    # The wheels of CUDA and cuDNN keep their libraries where the system's loader does not look.
    ort.preload_dlls(directory="")
    try:
        make_session(_IDENTITY, device="cuda", threads=1, label="--device cuda")
    except DeviceUnavailable:
        if wanted == "cuda":
            raise
        log.warning("no CUDA device that works: models run on the CPU")
        return "cpu"
    return "cuda"


def make_session(onnx: bytes, *, device: Device, threads: int, label: str) -> ort.InferenceSession:
    """Load a graph.

    Args:
        onnx: Bytes of an ONNX file.
        device: Where to run it.
        threads: Threads inside one run.
        label: Name of the model version, for errors.

    Raises:
        PackageError: ONNX Runtime refuses the graph.
        DeviceUnavailable: The CUDA provider is built in but does not start on this machine.
    """
    try:
        session = ort.InferenceSession(onnx, _options(device, threads), providers=_providers(device))
    except Exception as error:  # ONNX Runtime has a dozen unrelated exception classes
        raise PackageError(f"{label}: {_refusal(error)}") from error
    if PROVIDERS[device] not in session.get_providers():
        # ONNX Runtime logs the reason and goes on with the CPU; we do not.
        raise DeviceUnavailable(f"{label}: the {device} provider did not start; see ONNX Runtime's log above")
    return session


def _options(device: Device, threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _SEVERITY[device]
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    # Spinning workers burn whole cores between two steps.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _providers(device: Device) -> Sequence[str]:
    return [PROVIDERS["cpu"]] if device == "cpu" else [PROVIDERS["cuda"], PROVIDERS["cpu"]]


def _refusal(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "external data" in text.lower():
        return (
            "the graph keeps weights in other files, and a package has one: make one of it with "
            f"onnx.save(onnx.load('FILE.onnx'), 'ONE_FILE.onnx') in Python ({text})"
        )
    return f"ONNX Runtime refuses the graph: {text}"


def is_refused_by_a_node(error: InvalidArgument) -> bool:
    """Whether a run failed for the values that came to a node, and not for the form of what was fed."""
    return "returned while running" in str(error)
