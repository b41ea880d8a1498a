"""The model repository as this door shows it, and loading and unloading by it."""

from __future__ import annotations

from collections.abc import Mapping

from tidegate.engine.pool import LoadState, ModelPool
from tidegate.errors import InvalidRequest, ModelNotFound, Unsupported
from tidegate.oip import open_inference_pb2 as pb
from tidegate.session.manager import SessionManager
from tidegate.session.open_request import check_model

READY, LOADING, UNAVAILABLE = "READY", "LOADING", "UNAVAILABLE"

_STATES = {
    LoadState.READY: READY,
    LoadState.LOADING: LOADING,
    LoadState.AVAILABLE: UNAVAILABLE,
    LoadState.FAILED: UNAVAILABLE,
}


def index(pool: ModelPool, *, only_ready: bool) -> pb.RepositoryIndexResponse:
    """Every version of the repository, or those that are loaded."""
    return pb.RepositoryIndexResponse(
        models=[
            pb.RepositoryIndexResponse.ModelIndex(
                name=s.entry.name, version=s.entry.version, state=_STATES[s.state], reason=s.failure
            )
            for s in pool.statuses()
            if s.state is LoadState.READY or not only_ready
        ]
    )


async def load(manager: SessionManager, name: str) -> None:
    """Load the newest version of a model; it stays until it is unloaded by name.

    Raises:
        ModelNotFound: The repository has no such model.
        PackageError: The version is refused.
    """
    check_model(name, "")
    manager.check_running()
    manager.pool.keep(await manager.pool.load(name))


def unload(manager: SessionManager, name: str) -> None:
    """Unload all versions of a model; new sessions have it loaded again.

    Raises:
        ModelNotFound: The repository has no such model.
        ModelInUse: Sessions in memory need a version; none was unloaded.
    """
    check_model(name, "")
    statuses = [s for s in manager.pool.statuses() if s.entry.name == name]
    if not statuses:
        raise ModelNotFound(f"no model {name!r}")
    manager.unload(*(s.model for s in statuses if s.model is not None))
    for status in statuses:
        manager.pool.withdraw(status.entry)


def check_repository(name: str) -> None:
    """Raise InvalidRequest for a repository with a name: there is one, without."""
    if name:
        raise InvalidRequest(f"repository_name: expected none, the server has one, got {name[:100]!r}")


def check_load_parameters(parameters: Mapping[str, pb.ModelRepositoryParameter]) -> None:
    """Refuse a model that comes with the request, instead of loading another than was asked for.

    Raises:
        Unsupported: A configuration or a file.
    """
    for name in parameters:
        if name == "config" or name.startswith("file:"):
            raise Unsupported(f"parameters: {name[:100]}: expected the repository to have the model's files")
