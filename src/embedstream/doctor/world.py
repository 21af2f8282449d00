"""What the checks look at; each part is asked when the first check needs it."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from confluent_kafka.admin import AdminClient

from embedstream import embedding, flink, kafka, services, store
from embedstream.decode.opening import decoder_of
from embedstream.errors import ConfigError
from embedstream.standing import Standing, look

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    import psycopg

    from embedstream.decode.message import Decode
    from embedstream.settings import Settings
    from embedstream.space import Origin, Space


class Heard(NamedTuple):
    """An answer of the service, and this machine's clock in the middle of the question and the answer."""

    response: httpx.Response
    at: datetime


class World:
    """The service, the database, the broker and the cluster that the settings lead to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        if "connection" in self.__dict__:
            self.connection.close()

    @cached_property
    def health(self) -> Heard:
        url = self.settings.embedding_service_url
        began = datetime.now(UTC)
        try:
            response = httpx.get(f"{url}/health", timeout=kafka.client.TIMEOUT, trust_env=False)
        except httpx.HTTPError as exc:
            raise ConfigError(
                f"no embedding service answers at {url} ({type(exc).__name__}): start it, or set EMBEDDING_SERVICE_URL"
            ) from exc
        return Heard(response, began + (datetime.now(UTC) - began) / 2)

    @cached_property
    def service(self) -> tuple[Settings, Space]:
        """What leads to the service of the table, and what that embeds with."""
        return services.find(self.settings)

    @property
    def space(self) -> Space:
        return self.service[1]

    @cached_property
    def origin(self) -> Origin | None:
        """Where on the Hub the service has its model from."""
        return embedding.read_origin(self.service[0])

    @cached_property
    def connection(self) -> psycopg.Connection[Any]:
        return store.connect(self.settings)

    @cached_property
    def decode(self) -> Decode:
        """What the pipeline makes of a record, whatever the table's model."""
        return decoder_of(self.settings, None)

    @cached_property
    def pinned(self) -> Space | None:
        """What the table holds vectors of."""
        return store.read_space(self.connection, self.settings)

    @cached_property
    def admin(self) -> AdminClient:
        return AdminClient(kafka.client_config(self.settings))

    @cached_property
    def partitions(self) -> dict[str, int]:
        """The number of partitions of each topic that the broker shows to us."""
        topics = self.admin.list_topics(timeout=kafka.client.TIMEOUT).topics
        return {name: len(topic.partitions) for name, topic in topics.items()}

    @cached_property
    def input_config(self) -> dict[str, str]:
        return kafka.topic_config(self.admin, self.settings.kafka_input_topic)

    @cached_property
    def dead_letter_config(self) -> dict[str, str]:
        return kafka.topic_config(self.admin, self.settings.kafka_dead_letter_topic)

    @cached_property
    def standing(self) -> Standing:
        """How far the table and the group are in the input topic; that the database is away is told elsewhere."""
        return look(self.settings, lambda: nullcontext(self.connection))

    @cached_property
    def cluster(self) -> flink.Cluster:
        return flink.Cluster(self.settings)

    @cached_property
    def overview(self) -> dict[str, Any]:
        return self.cluster.overview()

    @cached_property
    def task_managers(self) -> list[dict[str, Any]]:
        """As Flink's `/taskmanagers` has them: id, slotsNumber, memoryConfiguration."""
        return self.cluster.task_managers()

    @cached_property
    def jobs(self) -> list[flink.Job]:
        return self.cluster.live_jobs(self.settings.flink_job_name)
