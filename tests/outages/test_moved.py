"""Table or topic move to another server: a standby that lags takes over, a mirror of the topic does."""

import time

import pytest

from embedstream import kafka
from embedstream.local.ports import LOOPBACK
from embedstream.local.postgres import SUPERUSER
from support.check import assert_table_equals_topic
from support.kafka import kafka_broker
from support.keeper import Keeper
from support.postgres import PostgresServer
from support.proxies import TcpProxy
from support.stack import producing, running_stack, wait
from support.standby import standby_of
from support.traffic import Traffic, read_topic
from support.upheavals import moved
from support.watch import Watch

PARTITIONS = 2
LAG_SECONDS = 6

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def stack(tmp_path):
    settings = {
        "EMBEDDING_MODEL": "fake:64", "FLINK_PARALLELISM": "2", "FLINK_CHECKPOINT_INTERVAL_MS": "1000",
        "HEALTH_MAX_AGE_SECONDS": "5", "HEALTH_MAX_WAITING_SECONDS": "15",
    }  # fmt: skip
    with running_stack(tmp_path / "stack", settings, "--no-job") as stack:
        yield stack


@pytest.fixture
def traffic(request):
    return Traffic(seed=sum(request.node.name.encode()), ids=500, start_ms=int(time.time() * 1000) - 3_600_000)


@pytest.fixture
def database(stack):
    """The way of all to the database; its `target` is the server's port."""
    with TcpProxy(stack.settings.pgvector_port) as proxy:
        lead(stack, pgvector_port=proxy.port)
        yield proxy


@pytest.fixture
def keep(stack, tmp_path):
    """Starts a keeper with the settings of now."""
    keepers = []

    def start():
        keepers.append(Keeper(stack, {}, tmp_path / "keeper.log"))
        keepers[-1].start()
        return keepers[-1]

    yield start
    for keeper in keepers:
        keeper.end()


def lead(stack, **settings):
    """Have all that is asked of the stack go elsewhere."""
    stack.settings = stack.settings.model_copy(update=settings)
    stack.environment |= {name.upper(): str(value) for name, value in settings.items()}


def assert_sound(stack, watch, say):
    stack.wait_until_done()
    assert_table_equals_topic(stack)
    audit = stack.command("audit", check=False, timeout=120)
    say(f"status and doctor: {watch}\n{audit.stdout}")
    assert audit.returncode == 0, audit.stdout
    watch.assert_never_content_in_vain()


@pytest.mark.parametrize("stops", [False, True], ids=["while the job runs", "while it is stopped"])
def test_a_standby_that_lags_takes_over(stack, database, keep, traffic, tmp_path, say, stops):
    primary, keeper = PostgresServer(LOOPBACK, database.target, SUPERUSER), keep()
    stack.produce(traffic.oddities())
    with standby_of(primary, tmp_path / "standby") as standby:
        with Watch(stack, PARTITIONS) as watch:
            with producing(stack, [traffic.records(100) for _ in range(20)], 1.0):
                time.sleep(3)
                standby.wait_until_level(primary)
                standby.cut_off()
                time.sleep(LAG_SECONDS)
                if stops:
                    keeper.stop()
                standby.promote()
                database.target = standby.port
                database.cut()
                if stops:
                    keeper.start()
            sent = watch.sent()
            wait(lambda: watch.are_stored(sent), 180, "what the standby never had")
        assert_sound(stack, watch, say)
    told = "went back in time" in (tmp_path / "keeper.log").read_text()
    assert told is not stops


def test_a_topic_that_was_mirrored_to_another_cluster_is_adopted(stack, keep, traffic, tmp_path, say):
    keep_old = keep()
    stack.produce([*traffic.oddities(), *traffic.records(2000)])
    stack.wait_until_done()
    keep_old.stop()
    records = read_topic(stack.settings.kafka_bootstrap_servers, stack.settings.kafka_input_topic)
    with kafka_broker(tmp_path / "another") as address:
        lead(stack, kafka_bootstrap_servers=address)
        kafka.ensure_topics(stack.settings)
        topic = stack.settings.kafka_input_topic
        kafka.produce(stack.settings, topic, moved(records, traffic, PARTITIONS))
        with Watch(stack, PARTITIONS) as watch:
            assert "another topic" in refused(stack, "status", "--check", code=1)
            assert "--adopt-topic" in refused(stack, "submit", code=2)
            stack.command("submit", "--adopt-topic", timeout=180)
            keep()
            with producing(stack, [traffic.records(100) for _ in range(5)], 0.5):
                time.sleep(LAG_SECONDS)
            sent = watch.sent()
            wait(lambda: watch.are_stored(sent), 120, "what was sent meanwhile")
        assert_sound(stack, watch, say)


def refused(stack, *arguments, code):
    done = stack.command(*arguments, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
