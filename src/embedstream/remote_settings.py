"""The settings of EMBEDDING_ENGINE=remote: the server behind the service, and what it may be asked for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings


class RemoteSettings(BaseSettings):
    """A part of `Settings`."""

    remote_api: Literal["openai", "azure", "tei", "ollama"] = Field(
        "openai", description="what the remote server speaks (openai: vLLM, llama.cpp and others do, too)"
    )
    remote_url: str | None = Field(
        None, description="address of the remote server, for openai with its /v1 (not set: OpenAI's own)"
    )
    remote_model: str | None = Field(
        None, min_length=1, description="model of the remote server; for azure the deployment (tei needs none)"
    )
    remote_key: SecretStr | None = Field(None, description="key of the remote server")
    remote_api_version: str = Field("2024-10-21", description="api-version that azure is asked with")
    remote_dimensions: int | None = Field(
        None, ge=1, le=4000, description="dimensions to ask the remote server for (not set: the model's own)"
    )
    remote_text_tokens: int | None = Field(
        None,
        ge=1,
        description="most tokens of one text that the remote model reads (not set: what the server, or a table, says)",
    )
    remote_prompt: str = Field("", description="what stands before each text that is to be found")
    remote_query_prompt: str = Field("", description="what stands before each text to search with")
    remote_tokenizer: Path | None = Field(
        None,
        description="the remote model's tokenizer.json: tokens are counted, long texts cut, and chunks can be made",
    )
    remote_max_texts: int = Field(2048, ge=1, le=16_384, description="most texts in one request to the remote server")
    remote_max_tokens: int = Field(
        250_000, ge=1, description="most tokens, estimated, in one request to the remote server"
    )
    remote_requests_per_minute: int | None = Field(
        None, ge=1, description="most requests a minute to the remote server (not set: what its answers say)"
    )
    remote_tokens_per_minute: int | None = Field(
        None, ge=1, description="most tokens a minute (not set: what its answers say)"
    )
    remote_tokens_per_day: int | None = Field(
        None, ge=1, description="most tokens a day, in UTC; at the limit the service waits for the next (not set: any)"
    )
    remote_usage_file: Path | None = Field(
        None, description="file that keeps the day's tokens over a restart (not set: a restart counts from 0)"
    )
    remote_concurrency: int = Field(4, ge=1, le=64, description="requests under way at the remote server at a time")
    remote_timeout: float = Field(30.0, gt=0, description="seconds to wait for one answer of the remote server")
    remote_price: float | None = Field(
        None, ge=0, description="price of a million tokens, in a currency of yours, for the cost in metrics and status"
    )

    @field_validator("remote_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        if not url.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if re.search(r"[@?#]", url):
            raise ValueError("must have no user, no password and no query in it: it is logged")
        return url.rstrip("/")

    @field_validator("remote_key")
    @classmethod
    def _fits_a_header_line(cls, key: SecretStr | None) -> SecretStr | None:
        if key is not None and not re.fullmatch(r"[!-~]+", key.get_secret_value()):
            raise ValueError("must be printable ASCII without white space, and not empty")
        return key
