"""The repository, over real folders."""

import hashlib
import shutil
from pathlib import Path

import pytest

from tidegate.errors import ConfigError, ModelNotFound, PackageError
from tidegate.model.manifest import InputSpec, Manifest, OutputSpec
from tidegate.model.package import write_package
from tidegate.repository.repository import MAX_LISTED, Entry, Repository
from tidegate.tensor import DType


def publish(root: Path, name: str, version: str, onnx: bytes = b"onnx", description: str = "") -> Path:
    """A package whose bytes have its hash; nobody here runs them."""
    manifest = Manifest(
        name=name,
        version=version,
        description=description,
        sha256=hashlib.sha256(onnx).hexdigest(),
        inputs=(InputSpec(name="x", dtype=DType.FLOAT32, shape=("batch", "time", 1)),),
        outputs=(OutputSpec(name="y", dtype=DType.FLOAT32, shape=("batch", "time", 1)),),
    )
    return write_package(root, manifest, onnx)


def replace(root: Path, name: str, version: str, onnx: bytes = b"onnx", description: str = "") -> None:
    """Put another package in the place of one, as no tool of ours does."""
    shutil.rmtree(root / name / version)
    publish(root, name, version, onnx, description)


def test_versions_are_sorted_by_number(tmp_path: Path) -> None:
    for version in ("10", "9", "1"):
        publish(tmp_path, "tide", version)
    publish(tmp_path, "co2", "2")

    entries = Repository(tmp_path).entries()

    assert entries == [Entry("co2", "2"), Entry("tide", "1"), Entry("tide", "9"), Entry("tide", "10")]


def test_what_is_no_version_is_left_alone(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1")
    (tmp_path / "README.md").touch()
    (tmp_path / "recipe-only").mkdir()
    (tmp_path / "recipe-only" / "recipe.toml").touch()
    for folder in ("co2/.2-staging", "co2/data", "co2/0", "co2/01", "co2/-3", "co2/1.5", ".hidden/1"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "co2" / "7").touch()

    assert Repository(tmp_path).entries() == [Entry("co2", "1")]


def test_an_empty_repository_has_no_entries(tmp_path: Path) -> None:
    assert Repository(tmp_path).entries() == []


@pytest.mark.parametrize("version", ["latest", ""])
def test_the_latest_version_is_the_greatest_number(tmp_path: Path, version: str) -> None:
    for number in ("2", "10", "9"):
        publish(tmp_path, "co2", number)
    repository = Repository(tmp_path)

    assert repository.latest("co2") == Entry("co2", "10")
    assert repository.read("co2", version).manifest.version == "10"


def test_a_version_published_later_is_seen(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1")
    repository = Repository(tmp_path)

    publish(tmp_path, "co2", "2")

    assert repository.read("co2").manifest.version == "2"


def test_a_version_is_read_by_its_number(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1", onnx=b"first")
    publish(tmp_path, "co2", "2", onnx=b"second")

    assert Repository(tmp_path).read("co2", "1").onnx == b"first"


def test_an_unknown_model_is_refused_with_what_there_is(tmp_path: Path) -> None:
    publish(tmp_path, "tide", "1")
    publish(tmp_path, "co2", "1")
    (tmp_path / "recipe-only").mkdir()

    with pytest.raises(ModelNotFound) as caught:
        Repository(tmp_path).read("x")

    assert str(caught.value) == "no model 'x'; the repository has: co2, tide"


def test_a_folder_without_a_version_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "recipe-only").mkdir()

    with pytest.raises(ModelNotFound) as caught:
        Repository(tmp_path).latest("recipe-only")

    assert str(caught.value) == "no model 'recipe-only'; the repository has: none"


def test_an_unknown_version_is_refused_with_what_there_is(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1")
    publish(tmp_path, "co2", "2")

    with pytest.raises(ModelNotFound) as caught:
        Repository(tmp_path).read("co2", "9")

    assert str(caught.value) == "no version '9' of model 'co2'; the repository has: 1, 2"


def test_a_long_list_is_cut_in_the_text(tmp_path: Path) -> None:
    for number in range(1, MAX_LISTED + 4):
        (tmp_path / "co2" / str(number)).mkdir(parents=True)

    with pytest.raises(ModelNotFound, match=r", 20 and 3 more$"):
        Repository(tmp_path).read("co2", "99")


@pytest.mark.parametrize("name", ["../outside", "..", ".", "", "/", "co2/../../outside", "co2\0"])
def test_a_name_cannot_leave_the_repository(tmp_path: Path, name: str) -> None:
    publish(tmp_path, "outside", "1")
    publish(tmp_path / "models", "co2", "1")

    with pytest.raises(ModelNotFound):
        Repository(tmp_path / "models").read(name)


@pytest.mark.parametrize("version", ["../2", "1/../1", ".", "01", "-1", "1\n"])
def test_a_version_cannot_leave_its_model(tmp_path: Path, version: str) -> None:
    publish(tmp_path, "co2", "1")

    with pytest.raises(ModelNotFound):
        Repository(tmp_path).read("co2", version)


@pytest.mark.parametrize(
    ("folder", "text"),
    [
        ("tide/1", "name: expected 'tide' as its folder, got 'co2'"),
        ("co2/2", "version: expected '2' as its folder, got '1'"),
    ],
)
def test_a_manifest_of_another_place_is_refused(tmp_path: Path, folder: str, text: str) -> None:
    package = publish(tmp_path, "co2", "1")
    shutil.copytree(package, tmp_path / folder)

    with pytest.raises(PackageError) as caught:
        Repository(tmp_path).read(*folder.split("/"))

    assert text in str(caught.value)


def test_a_version_whose_bytes_change_is_refused_by_name(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1", onnx=b"first")
    repository = Repository(tmp_path)
    repository.hold(repository.read("co2", "1").manifest)

    replace(tmp_path, "co2", "1", onnx=b"other")

    with pytest.raises(
        PackageError, match=r"co2/1: sha256: expected [0-9a-f]{64} as loaded, got [0-9a-f]{64}"
    ):
        repository.read("co2", "1")


def test_a_manifest_that_changes_is_refused(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1")
    repository = Repository(tmp_path)
    repository.hold(repository.read("co2", "1").manifest)

    replace(tmp_path, "co2", "1", description="other")

    with pytest.raises(PackageError, match=r"co2/1/manifest\.toml: changed since it was loaded"):
        repository.read("co2", "1")


def test_what_was_read_and_not_loaded_may_change(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1", onnx=b"first")
    repository = Repository(tmp_path)
    repository.read("co2", "1")

    replace(tmp_path, "co2", "1", onnx=b"other")

    assert repository.read("co2", "1").onnx == b"other"


def test_a_version_that_did_not_change_is_read_again(tmp_path: Path) -> None:
    publish(tmp_path, "co2", "1")
    repository = Repository(tmp_path)
    package = repository.read("co2", "1")
    repository.hold(package.manifest)

    assert repository.read("co2", "1") == package


def test_a_version_without_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "co2" / "1").mkdir(parents=True)

    with pytest.raises(PackageError, match=r"manifest\.toml: No such file"):
        Repository(tmp_path).read("co2")


def test_a_repository_that_is_not_there_is_a_setting_to_change(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Repository(tmp_path / "models")

    assert str(caught.value) == f"--models: {tmp_path / 'models'}: No such file or directory"
