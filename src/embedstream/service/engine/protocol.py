"""What every engine is: something that turns texts into token ids, and those into vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from embedstream.service.engine.precision import Precision
    from embedstream.service.engine.tokens import Ids, Text, Tokens
    from embedstream.space import Tokenizer

BATCH_TOKENS = 768
"""So many tokens' numbers stay in a core's cache; larger batches are slower, smaller ones waste it."""

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EngineFacts:
    """What the vectors are, and what makes them."""

    model_name: str
    model_revision: str
    embedding_dimension: int
    normalised: bool
    max_tokens: int
    engine: str
    precision: Precision | None
    """None where another server computes, and does not tell."""
    fidelity: float | None = 1.0
    """The smallest cosine between a vector and its like in float32, over the texts that were tried at start."""
    hub_commit: str | None = None
    """The commit of a model on the Hugging Face Hub."""
    batch_tokens: int = BATCH_TOKENS
    warnings: tuple[str, ...] = ()
    """What makes the vectors worse than the model's could be, or the service larger, one sentence each."""


class Source(Protocol):
    """Where vectors come from: an engine, or another server."""

    @property
    def facts(self) -> EngineFacts: ...

    @property
    def workers(self) -> int: ...

    @property
    def vocabulary(self) -> int:
        """How many ids there are, the first of which is 0; none where ids are not taken."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """For who cuts texts to size; None where nobody can."""


class Engine(Source, Protocol):
    """Tokenises in any thread, and infers in as many as it has workers."""

    def tokenize(self, texts: Sequence[Text]) -> list[Tokens]: ...

    def open_worker(self) -> Callable[[Sequence[Ids]], Vectors]:
        """A function for one thread: texts' ids, each of a length from 1 to `max_tokens`, to vectors of shape
        (texts, dimension), which are valid until its next call. It returns ready to run at full speed.
        """
