"""How much of the allowed rate is reached, and how often a server has to refuse: a minute is no time here."""

import heapq
import math
import random

import pytest

from embedstream.service.remote.budget import Budget
from embedstream.service.remote.client import seconds_of, wait_of
from support.remote import Bucket, OpenAi

SECONDS = 600
LATENCY = 0.3
CONCURRENCY = 4


class World:
    """Clients that always have texts, each with a budget of its own, and one account of theirs; time is simulated."""

    def __init__(self, clients, tokens, requests, *, counts=1.0, allowed=(None, None)):
        self.now = 0.0
        self.server = OpenAi(clock=lambda: self.now)
        self.server.buckets = {
            "requests": Bucket(requests, lambda: self.now), "tokens": Bucket(tokens, lambda: self.now)
        }  # fmt: skip
        self.counts = counts
        self.budgets = [Budget(*allowed, CONCURRENCY, lambda: self.now) for _ in range(clients)]
        self.events = []
        self.asleep = set()
        self.done = self.sent = self.refused = 0

    def at(self, seconds, act, *facts):
        heapq.heappush(self.events, (self.now + seconds, len(self.events) + random.random(), act, facts))

    def run(self):
        for client, budget in enumerate(self.budgets):
            budget.begin(0)
            budget.end(0)
            budget.succeeded(self.server.standing())
            self.wake(client)
        while self.events and self.now < SECONDS:
            self.now, _, act, facts = heapq.heappop(self.events)
            act(*facts)
        return self

    def wake(self, client):
        self.asleep.discard(client)
        budget = self.budgets[client]
        while True:
            tokens = self.pack(budget.tokens_at_a_time)
            wait = budget.seconds_until(tokens)
            if wait > 0:
                if math.isfinite(wait) and client not in self.asleep:
                    self.asleep.add(client)
                    self.at(wait + 1e-3, self.wake, client)
                return
            budget.begin(tokens)
            self.at(LATENCY / 2, self.serve, client, tokens)

    @staticmethod
    def pack(most):
        """What of texts of some 57 tokens fits."""
        return max(57, int(min(most, 2048 * 57)) - random.randint(0, 56))

    def serve(self, client, tokens):
        wanted = {"requests": 1, "tokens": tokens * self.counts}
        for bucket in self.server.buckets.values():
            bucket.refill()
        wait = max(bucket.seconds_until(wanted[kind]) for kind, bucket in self.server.buckets.items())
        if not wait:
            for kind, bucket in self.server.buckets.items():
                bucket.level -= wanted[kind]
        self.at(LATENCY / 2, self.answered, client, tokens, wait, self.server.standing())

    def answered(self, client, tokens, wait, headers):
        budget = self.budgets[client]
        budget.end(tokens)
        if wait:
            self.refused += 1
            budget.refused(wait, headers)
        else:
            self.sent += 1
            self.done += tokens * self.counts
            budget.succeeded(headers)
        self.wake(client)

    @property
    def share(self):
        """Of the rate, without what the account has saved up at the start."""
        tokens = self.server.buckets["tokens"].limit
        return self.done / (tokens * SECONDS / 60)


@pytest.mark.parametrize(
    ("facts", "clients"),
    [
        ({"tokens": 1_000_000, "requests": 3000}, 1),
        ({"tokens": 10_000_000, "requests": 10_000}, 1),
        ({"tokens": 40_000, "requests": 100}, 1),
        ({"tokens": 1_000_000, "requests": 30}, 1),
        ({"tokens": 1_000_000, "requests": 3000, "counts": 0.6}, 1),
        ({"tokens": 1_000_000, "requests": 3000, "counts": 1.4}, 1),
        ({"tokens": 1_000_000, "requests": 3000, "allowed": (3000, 1_000_000)}, 1),
        ({"tokens": 1_000_000, "requests": 3000}, 2),
        ({"tokens": 40_000, "requests": 100}, 2),
    ],
)
def test_nearly_all_of_the_allowed_rate_is_reached_without_a_storm(facts, clients):
    world = World(clients, **facts).run()
    assert world.share >= 0.9
    assert world.refused <= 0.05 * world.sent + 1 if clients == 1 else world.refused <= 0.3 * world.sent


def test_what_is_set_lower_than_the_account_s_limit_is_kept():
    world = World(1, 1_000_000, 3000, allowed=(3000, 500_000)).run()
    assert 0.45 <= world.share <= 0.51
    assert not world.refused


def test_nothing_is_sent_before_the_time_that_the_server_names():
    now = [0.0]
    budget = Budget(None, None, 4, lambda: now[0])
    budget.begin(10)
    budget.end(10)
    budget.refused(7.0, {})
    assert 7.0 <= budget.seconds_until(10) <= 7.0 * 1.25
    now[0] = 9.0
    assert budget.seconds_until(10) == 0


def test_a_pause_of_no_named_length_grows():
    now = [0.0]
    budget = Budget(None, None, 4, lambda: now[0])
    lengths = []
    for _ in range(4):
        lengths.append(budget.refused(None, {}))
        now[0] += 100
    assert all(a <= 1.25 * 2**n and a >= 2**n for n, a in enumerate(lengths))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "510", "retry-after": "1", "x-ratelimit-reset-tokens": "9s"}, 0.51),
        ({"retry-after": "20", "x-ratelimit-reset-tokens": "9s"}, 20),
        ({"x-ratelimit-reset-tokens": "6m0s", "x-ratelimit-reset-requests": "510ms"}, 360),
        ({"x-ratelimit-remaining-requests": "5", "x-ratelimit-reset-requests": "6m"}, None),
        ({"retry-after-ms": "soon"}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_how_long_to_wait_is_asked_for_in_this_order(headers, seconds):
    assert wait_of(headers) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("510ms", 0.51), ("1h2m3.5s", 3723.5), ("8.64s", 8.64), ("7", 7), ("", None), ("later", None)],
)
def test_durations_are_read_as_go_writes_them(text, seconds):
    assert seconds_of(text) == seconds
