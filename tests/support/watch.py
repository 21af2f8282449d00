"""Looks at status and doctor all the while, beside a knowledge of its own about what was sent and when."""

import threading
import time
from dataclasses import dataclass

import psycopg

from embedstream.doctor import examine
from embedstream.errors import EmbedstreamError
from embedstream.status.health import _COMMIT_DELAY
from embedstream.status.read import Observer
from support.traffic import Traffic

SEND_SECONDS = 0.7
LOOK_SECONDS = 2.0
DOCTOR_EVERY = 5


@dataclass(frozen=True)
class Look:
    """What was found: `missing` are probes older than the thresholds that were in the table neither before nor after;
    `lost` are those of them that had been there once.
    """

    at: float
    healthy: bool
    reasons: tuple
    missing: tuple = ()
    lost: tuple = ()
    doctor: tuple | None = None

    @property
    def is_content_in_vain(self):
        return (self.healthy and bool(self.missing)) or (self.doctor == () and bool(self.lost))


_WARNINGS = ("broker.unread", "flink.job")


class Watch:
    """Sends a probe every `SEND_SECONDS`, to one partition after another, and looks every `LOOK_SECONDS`.

    `looks` has what was found; a look during which the database did not answer says nothing of what is missing.
    """

    def __init__(self, stack, partitions):
        self._stack = stack
        self._partitions = partitions
        settings = stack.settings
        self._patience = settings.health_max_age_seconds + settings.flink_checkpoint_interval_ms / 1000 + _COMMIT_DELAY
        self._observer = Observer(settings)
        self._traffic = Traffic(seed=0, ids=0, start_ms=0)
        self._sent = {}
        self._seen = set()
        self._gone = {}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=each) for each in (
            (self._send, SEND_SECONDS), (self._look, LOOK_SECONDS),
        )]  # fmt: skip
        self.looks = []
        self.failure = None

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()

    def sent(self):
        """The probes that are known to be sent by now."""
        return tuple(self._sent)

    def are_stored(self, ids):
        try:
            return self._absent(ids) == ()
        except (psycopg.Error, EmbedstreamError):
            return False

    def _repeat(self, step, seconds):
        try:
            while not self._over.wait(seconds):
                step()
        except BaseException as exc:  # for `assert_never_content_in_vain`  # noqa: BLE001
            self.failure = exc

    def _send(self):
        number = len(self._traffic.sent)
        self._traffic.catch_up()
        record = self._traffic.probe(f"watch-{number}")
        try:
            self._stack.produce([record._replace(partition=number % self._partitions)])
        except EmbedstreamError:
            return  # whether it was sent is not known
        self._sent[f"watch-{number}"] = time.monotonic()

    def _absent(self, ids):
        query = "SELECT id FROM text_message_embeddings WHERE id = ANY (%s)"
        there = {id for (id,) in self._stack.query(query, list(ids))}
        return tuple(id for id in ids if id not in there)

    def _look(self):
        began = time.monotonic()
        due = tuple(id for id, sent in dict(self._sent).items() if sent < began - self._patience)
        before = self._known_absent(due)
        found = self._health()
        doctor = self._doctor() if before and len(self.looks) % DOCTOR_EVERY == 0 else None
        missing = self._known_absent(before)
        lost = tuple(id for id in missing if self._gone.get(id, began) < began - self._patience)
        self.looks.append(Look(time.time(), not found, found, missing, lost, doctor))

    def _known_absent(self, ids):
        """None of them where the database does not tell."""
        try:
            absent = self._absent(ids)
        except (psycopg.Error, EmbedstreamError):
            return ()
        self._seen.update(set(ids) - set(absent))
        self._gone = {id: self._gone.get(id, time.monotonic()) for id in absent if id in self._seen}
        return absent

    def _health(self):
        """Why the pipeline is not healthy."""
        try:
            health = self._observer.read().health
        except EmbedstreamError as exc:
            return (str(exc),)
        return tuple(health.reasons) or (() if health.state == "healthy" else (health.state,))

    def _doctor(self):
        """What doctor finds wrong, and what it warns of that keeps records from the table."""
        try:
            return tuple(
                finding.fact
                for finding in examine(self._stack.settings)
                if finding.state == "FAIL" or (finding.state == "warn" and finding.check in _WARNINGS)
            )
        except EmbedstreamError as exc:
            return (str(exc),)

    def assert_never_content_in_vain(self):
        if self.failure:
            raise self.failure
        assert self.looks
        wrong = [look for look in self.looks if look.is_content_in_vain]
        assert not wrong, f"{len(wrong)} of {len(self.looks)} looks found nothing although rows missed: {wrong[:3]}"

    def __str__(self):
        unhealthy = sum(not look.healthy for look in self.looks)
        missing = sum(bool(look.missing) for look in self.looks)
        return (
            f"{len(self._sent):,} probes, {len(self.looks):,} looks: {unhealthy:,} unhealthy, "
            f"{missing:,} while a probe missed that was older than {self._patience:.0f} s, "
            f"{sum(bool(look.lost) for look in self.looks):,} while one missed that had been there"
        )
