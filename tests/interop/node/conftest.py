"""Node's packages, installed once per version of package.json into `build/`; without them these tests skip."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
INSTALL_TIMEOUT_S = 120


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder that the packages of package.json are installed in."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here, so neither grpc-js nor buf")
    package = HERE / "package.json"
    folder = ROOT / "build/interop-node" / hashlib.sha256(package.read_bytes()).hexdigest()[:12]
    if not (folder / "installed").exists():
        _install(package, folder)
    return folder / "node_modules"


def _install(package: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(package, folder)
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm has not installed grpc-js and buf within {INSTALL_TIMEOUT_S} s")
    if done.returncode != 0:
        pytest.skip(f"npm cannot install grpc-js and buf: {done.stderr.strip()[-500:]}")
    (folder / "installed").touch()
