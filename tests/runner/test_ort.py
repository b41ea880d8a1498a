"""Devices, and what ONNX Runtime refuses."""

from __future__ import annotations

import onnxruntime
import pytest

from tidegate.errors import DeviceUnavailable, PackageError
from tidegate.runner.ort import choose_device, make_session, treat_denormals_as_zero

HAS_CUDA = "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def test_cpu_is_always_there() -> None:
    assert choose_device("cpu") == "cpu"


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
def test_auto_takes_the_cpu_where_there_is_no_cuda() -> None:
    assert choose_device("auto") == "cpu"


@pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")
def test_cuda_without_its_provider_is_an_error_that_says_what_to_install() -> None:
    with pytest.raises(DeviceUnavailable) as caught:
        choose_device("cuda")

    assert "ONNX Runtime" in str(caught.value)
    assert "install 'tidegate[gpu]' or use --device cpu" in str(caught.value)


def test_bytes_that_are_no_graph_are_a_package_error() -> None:
    with pytest.raises(PackageError, match=r"^m/1: ONNX Runtime refuses the graph: "):
        make_session(b"not a graph", device="cpu", threads=1, label="m/1")


def test_the_first_session_needs_no_file() -> None:
    treat_denormals_as_zero()
