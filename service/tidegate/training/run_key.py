"""What tells one training run from another: all that decides which weights it finds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch

from tidegate import __version__
from tidegate.training.devices import pick_device
from tidegate.training.recipe import Recipe


def run_key(recipe: Recipe, data_sha256: str) -> str:
    """Names a run: two with the same key, on the same machine, find the same weights.

    Args:
        recipe: Of the run.
        data_sha256: Of its data, in hex.

    Returns:
        16 hexadecimal digits.

    Raises:
        ConfigError: There is no such device as the recipe names.
    """
    parts = {
        "recipe": recipe.model_dump(mode="json", exclude={"description"}),
        "data": data_sha256,
        "device": pick_device(recipe.training.device).type,
        "torch": torch.__version__,
        "tidegate": __version__,
        "code": _code_hash(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _code_hash() -> str:
    """Of this package: between two releases the version stays, and what is trained may not."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
