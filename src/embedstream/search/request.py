"""What is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from embedstream.search.filters import compile_filter
from embedstream.search.problem import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

Mode: TypeAlias = Literal["semantic", "keyword", "hybrid"]
# Programs page through so many rows: beyond, an answer costs more than it is worth.
FARTHEST = 1000
_MOST_CHARACTERS = 10_000


class Request(BaseModel):
    """A search; `query`, `vector` or `id` (more like this one) says what for, exactly one of them.

    `where` is a tree of `filters`, `words` a filter by words beside it; `after` is inclusive, `before` is not.
    `min_similarity` cuts what is found by meaning, before it is fused with what is found by words. `ef_search` is how
    many candidates pgvector keeps while it walks its index (not set: the server's). `wait_for` names, by partition, the
    offset of a record that the answer has to reflect, and `timeout` how many seconds that may take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str | None = None
    vector: tuple[float, ...] | None = None
    id: str | None = None
    mode: Mode = "semantic"
    k: int = Field(10, ge=1)
    offset: int = Field(0, ge=0)
    where: dict[str, Any] | None = None
    words: str | None = Field(None, min_length=1, max_length=_MOST_CHARACTERS)
    after: AwareDatetime | None = None
    before: AwareDatetime | None = None
    min_similarity: float | None = Field(None, ge=-1, le=1)
    group_by: Literal["document"] | None = None
    exact: bool = False
    ef_search: int | None = Field(None, ge=1, le=1000)
    highlight: bool = False
    wait_for: dict[int, int] = Field(default_factory=dict)
    timeout: float = Field(5.0, ge=0, le=60)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if [self.query, self.vector, self.id].count(None) != 2:  # noqa: PLR2004 - one of three is left
            raise InvalidRequest("give exactly one of query, vector and id")
        if self.mode != "semantic" and self.query is None:
            raise InvalidRequest(f"mode {self.mode} looks for words: give a query")
        if self.mode != "semantic" and len(self.query or "") > _MOST_CHARACTERS:
            raise InvalidRequest(f"mode {self.mode} takes a query of at most {_MOST_CHARACTERS} characters")
        if self.mode == "keyword" and self.min_similarity is not None:
            raise InvalidRequest("min_similarity is of the modes semantic and hybrid: mode keyword compares no meaning")
        if any(number < 0 for pair in self.wait_for.items() for number in pair):
            raise InvalidRequest("wait_for: partitions and offsets are not negative")
        if self.where is not None:
            compile_filter(self.where)
        return self

    @property
    def end(self) -> int:
        """How many rows, from the best one on, the answer is taken from."""
        return self.offset + self.k


def request_of(facts: Mapping[str, Any]) -> Request:
    """A program's request; raises InvalidRequest with one sentence about the first thing that is wrong."""
    request = checked(facts)
    if request.end > FARTHEST:
        raise InvalidRequest(f"offset and k are at most {FARTHEST} together: narrow the search with where")
    return request


def checked(facts: Mapping[str, Any]) -> Request:
    """As `request_of`, but however far it reaches."""
    try:
        return Request.model_validate(dict(facts))
    except ValidationError as exc:
        error = exc.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(step) for step in error["loc"])
        said = str(error["msg"])
        raise InvalidRequest(f"{place}: {said[:1].lower()}{said[1:]}" if place else said) from None
