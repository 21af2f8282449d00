"""A running table on its way to another model: the service of that, who types the steps, and what may break of them."""

import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import psycopg

from embedstream.errors import EmbedstreamError
from embedstream.local.ports import free_port
from support.faults import BROKEN_SECONDS, FROZEN_SECONDS, Faults
from support.proxies import ServiceProxy
from support.service import started_service
from support.stack import suspended, wait
from support.threads import repeated

TABLE = "text_message_embeddings"
# The state of a migration once a step is done; None where there is none any more.
AFTER = {"cut-over": "cut over", "roll-back": "copying", "finish": None}
LOOK_SECONDS = 0.5
NAMES = (
    *(f"kill {part}" for part in ("worker", "taskmanager", "jobmanager", "service", "postgres", "kafka")),
    "freeze worker", "freeze postgres", "cut database", "service failing",
    "kill migrate", "kill other", "freeze other", *(f"other {mode}" for mode in ServiceProxy.MODES),
    "kill postgres and kill migrate", "kill worker and kill migrate", "kill other and kill migrate",
)  # fmt: skip


class OtherService:
    """A service behind a proxy; one that is killed comes back at its address."""

    def __init__(self, directory, model):
        self._directory = directory
        self._model = model
        self._port = free_port()
        self._running = ExitStack()

    def __enter__(self):
        self._start()
        self._service.wait_until_ready()
        self.proxy = ServiceProxy(self._service.url).__enter__()
        return self

    def __exit__(self, *_):
        self.proxy.__exit__()
        self._running.close()

    @property
    def url(self):
        """Without the proxy."""
        return self._service.url

    def _start(self):
        self._service = self._running.enter_context(started_service(self._directory, self._model, port=self._port))

    def kill(self):
        for process in self._service.family():
            process.kill()
        self._running.close()
        time.sleep(BROKEN_SECONDS)
        self._start()

    def freeze(self):
        with suspended(self._service.family()):
            time.sleep(FROZEN_SECONDS["service"])


class Operator:
    """Types a step of the migration until it is done, and `migrate resume` where it is refused."""

    def __init__(self, stack, environment, log):
        self._stack = stack
        self._environment = {**stack.environment, **environment}
        self._log = log
        self._process = None
        self._thread = None
        self._is_over = threading.Event()
        self.options = ()
        self.said = []
        self.killed = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._kill()

    def begin(self, step, *options):
        self.options = options
        self._thread = threading.Thread(target=self._repeat, args=(step,))
        self._thread.start()

    def wait(self, timeout):
        self._thread.join(timeout)
        assert not self._thread.is_alive(), f"the step is not done after {timeout} s: {self.said[-3:]}"
        unclear = [said for code, said in self.said if code not in (0, -9) and (code != 2 or said.count("\n") != 1)]
        assert unclear == []

    def kill(self):
        """The command that runs, or the next one."""
        wait(lambda: self._kill() or not self._thread or not self._thread.is_alive(), 30, "a command")

    def _kill(self):
        process = self._process
        if process is None or process.poll() is not None:
            return False
        process.kill()
        self.killed += 1
        return True

    def _repeat(self, step):
        while not self._is_over.is_set():
            is_through = self._once(step, *self.options)
            if is_through if step == "start" else self._is_done(step):
                return
            if not is_through and step in ("cut-over", "roll-back"):
                self._once("resume", "--share", "1")

    def _once(self, *arguments):
        command = [sys.executable, "-m", "embedstream", "migrate", *arguments]
        self._process = subprocess.Popen(
            command, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, said = self._process.communicate()
        self.said.append((self._process.returncode, said))
        with self._log.open("a") as log:
            code = self._process.returncode
            log.write(f"{time.strftime('%T')} {' '.join(arguments)} ended with {code}:\n{out}{said}")
        return self._process.returncode == 0

    def _is_done(self, step):
        with suppress(psycopg.Error, EmbedstreamError):
            relation = f"{TABLE}_migration"
            if self._stack.query("SELECT to_regclass(%s)", relation) == [(None,)]:
                return AFTER[step] is None
            return self._stack.query(f"SELECT state FROM {relation}") == [(AFTER[step],)]
        return False


class MigrationFaults(Faults):
    """Injects NAMES: `other` is the other model's service, `migrate` the command of a step."""

    def __init__(self, stack, service, database, keeper, other, operator):
        super().__init__(stack, service, database, keeper, SimpleNamespace(names=()))
        self._other = other
        self._acts = {"kill migrate": operator.kill, "kill other": other.kill, "freeze other": other.freeze}

    def inject(self, name):
        for each in name.split(" and "):
            kind, _, what = each.partition(" ")
            if each in self._acts:
                self._acts[each]()
            elif kind == "other":
                with self._other.proxy.breaking(what):
                    time.sleep(BROKEN_SECONDS)
            else:
                super().inject(each)


@contextmanager
def spaces_of(stack):
    """Looks all the while of which models and dimensions the rows of the table are; yields each look's answer."""
    query = f"SELECT DISTINCT model_name, model_revision, cardinality(embedding) FROM {TABLE}"
    seen = []

    def look():
        with suppress(psycopg.Error, EmbedstreamError):
            seen.append(frozenset(stack.query(query)))

    with repeated(look, LOOK_SECONDS):
        yield seen
