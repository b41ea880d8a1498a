"""The `[training]` table of a recipe: how the weights are found."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tidegate.training.recipe_types import Count, Positive, RecipePart


class TrainingRecipe(RecipePart):
    """How the weights are found: gradients of the quantile loss, truncated in time."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1, strict=True)] = 1
    """All that is random is drawn from it; `--seed` takes another."""

    device: Literal["cpu", "cuda", "auto"] = "cpu"
    """"auto" takes a GPU where there is one. On the CPU the same recipe gives the same bytes on the same
    machine; a GPU adds up in another order from run to run."""

    optimiser: Literal["adamw", "sgd"] = "adamw"
    """"sgd" is the plain one, with a momentum of 0.9."""

    learning_rate: Annotated[float, Field(gt=0, le=1e3, strict=True)] = 0.003
    """Of the first epoch."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """"cosine": the learning rate falls to a hundredth of itself over `max_epochs`. "constant": it stays."""

    weight_decay: Annotated[float, Field(ge=0, le=1e9, strict=True)] = 0.01
    """Share of each weight taken off per update, times the learning rate."""

    max_gradient_norm: Positive = 1.0
    """Longer gradients are clipped to this."""

    error_unit: Literal["change", "column"] = "change"
    """What the loss measures errors in. "change": the usual change of each target to each horizon, in the
    session's own unit where it has one, so that targets and sessions count alike. "column": the standard
    deviation of each target's column, so that what varies more within it counts more; horizons count alike
    in both."""

    max_epochs: Count = 100
    """Epochs, if patience does not end before; the schedule falls over so many."""

    patience_epochs: Count = 30
    """Stop when the validation loss has not fallen for so many epochs; the best weights are kept."""

    batch_size: Annotated[int, Field(ge=1, le=65_536, strict=True)] = 16
    """Runs side by side."""

    run_chunks: Count = 8
    """Chunks of each run in an epoch; the state is handed from each to the next."""

    chunk_steps: Count = 52
    """Steps that the gradient reaches back."""

    cold_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.25
    """Share of the runs that begin anew in each epoch, at least one unless it is 0: cold, at a random row, so that young sessions are
    learnt too. The others go on where they stopped, with the state that they had, so that old ones are; so
    does every run at 0, until it comes to the end of the training rows."""

    @property
    def run_steps(self) -> int:
        """Steps of each run in an epoch."""
        return self.run_chunks * self.chunk_steps
