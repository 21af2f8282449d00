"""A failover to a standby that lags: the job notices, and what the standby never had is read again."""

import pytest
from test_beginnings import IDS, send, settings, stored

from embedstream import kafka as topics
from embedstream import store
from embedstream.decode.default import decoder
from embedstream.decode.message import Rules
from embedstream.ingest import Ingest
from embedstream.kafka import record_of
from embedstream.retry import Patience
from support.fakes import HashEmbedder
from support.player import SPACE, play
from support.postgres import postgres_server
from support.proxies import TcpProxy
from support.standby import standby_of

__all__ = ["settings"]


class GivesUp(Exception):
    """Raised instead of a wait."""


def no_wait(_):
    raise GivesUp


def read(settings, begin, end):
    ranges = dict.fromkeys(range(2), (begin, end))
    return [record_of(message) for message in topics.read(settings, settings.kafka_input_topic, ranges)]


@pytest.mark.timeout(120)
def test_nothing_is_lost_in_a_failover_to_a_standby_that_lags(settings, tmp_path):
    topics.ensure_topics(settings)
    with postgres_server(tmp_path / "primary") as primary, TcpProxy(primary.port) as proxy:
        world = settings.model_copy(update={"pgvector_port": proxy.port, "pgvector_db": "embeddings_db"})
        send(world, IDS)
        play(world)
        table = store.TableStore(world, SPACE, lambda *gap: topics.has_record(world, *gap))
        job = Ingest(HashEmbedder(), table, decoder(Rules.of(world, SPACE.model_name)), Patience(sleep=no_wait))
        with standby_of(primary, tmp_path / "standby") as standby:
            send(world, {f"replicated-{number}" for number in range(4)})
            job(read(world, 10, 12))
            standby.wait_until_level(primary)
            standby.cut_off()
            send(world, {f"lost-{number}" for number in range(6)})
            job(read(world, 12, 15))
            topics.set_offsets(world, {0: 15, 1: 15})
            standby.promote()
            proxy.target = standby.port
            proxy.cut()
            send(world, {"after-1", "after-2"})
            for _ in range(2):  # the connection breaks first
                with pytest.raises(GivesUp):
                    job(read(world, 15, 16))
            with store.connect(world) as connection:
                lines = store.read_forgotten(connection, world)
            assert len(lines) == 2
            assert all("stands at offset 12" in line and "had been at 15" in line for line in lines)
            table.close()
            run = play(world)
            assert run.starts == {0: 12, 1: 12}
            assert run.kinds == {"stored": 8}
            assert len(stored(world)) == 32
            with store.connect(world) as connection:
                assert store.read_forgotten(connection, world) == []
