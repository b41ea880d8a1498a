"""Generated code is made by the oldest releases that may run it: it refuses older ones."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = [ROOT / "service" / "tidegate" / package for package in ("v1", "oip")]

MESSAGES = sorted(path for folder in GENERATED for path in folder.glob("*_pb2.py"))
SERVICES = sorted(path for folder in GENERATED for path in folder.glob("*_pb2_grpc.py"))


def pinned(package: str) -> str:
    """The release of a generator that proto/requirements.txt pins."""
    text = (ROOT / "proto" / "requirements.txt").read_text()
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)$", text, re.MULTILINE)
    return str(version)


def lower_bounds() -> dict[str, str]:
    """For each dependency, in any extra, the oldest release allowed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    required = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    return dict(re.findall(r"^([\w-]+)>=([\w.]+)", "\n".join(required), re.MULTILINE))


@pytest.mark.parametrize(
    "package", ["grpcio", "grpcio-status", "grpcio-health-checking", "grpcio-reflection"]
)
def test_services_are_generated_by_the_oldest_grpc_allowed(package: str) -> None:
    assert lower_bounds()[package] == pinned("grpcio-tools")


def test_messages_are_generated_for_the_oldest_protobuf_allowed() -> None:
    assert lower_bounds()["protobuf"] == pinned("protobuf")


@pytest.mark.parametrize("path", MESSAGES, ids=lambda p: p.name)
def test_the_messages_in_the_repository_name_that_protobuf(path: Path) -> None:
    assert f"# Protobuf Python Version: {pinned('protobuf')}\n" in path.read_text()


@pytest.mark.parametrize("path", SERVICES, ids=lambda p: p.name)
def test_the_services_in_the_repository_name_that_grpc(path: Path) -> None:
    assert f"GRPC_GENERATED_VERSION = '{pinned('grpcio-tools')}'\n" in path.read_text()


def test_every_proto_file_has_generated_code() -> None:
    protos = sorted((ROOT / "proto" / "tidegate").glob("*/*.proto"))

    expected = [(p.parent.name, p.stem) for p in protos]
    assert sorted((p.parent.name, p.name.removesuffix("_pb2.py")) for p in MESSAGES) == expected
