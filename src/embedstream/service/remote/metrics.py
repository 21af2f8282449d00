"""What the gateway counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from embedstream.service.remote.gateway import Gateway


class RemoteMetrics(Collector):
    """Reads what the gateway knows at the time of asking."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        usage, budget = self._gateway.usage, self._gateway.budget
        requests = CounterMetricFamily(
            "embedding_remote_requests", "Requests to the remote server, by how they ended", labels=["outcome"]
        )
        for outcome, number in sorted(usage.requests.items()):
            requests.add_metric([outcome], number)
        yield requests
        yield CounterMetricFamily("embedding_remote_tokens", "Tokens that the remote server embedded", usage.tokens)
        yield CounterMetricFamily(
            "embedding_remote_waited_seconds", "Time in which texts waited for the allowed rate", usage.waited
        )
        cost = usage.cost(usage.tokens)
        if cost is not None:
            yield CounterMetricFamily("embedding_remote_cost", "Tokens at REMOTE_PRICE", cost)
        yield _gauge("tokens_today", "Tokens of this day of UTC", usage.tokens_today)
        yield _gauge("standstill", "1 while nothing is sent, whatever the text", int(self._gateway.trouble is not None))
        yield _gauge("rate_share", "Share of the allowed rate that is used, after answers 429", budget.share)
        for kind in ("requests", "tokens"):
            rate = getattr(budget, f"{kind}_per_minute")
            if rate is not None:
                yield _gauge(f"{kind}_per_minute", f"Allowed {kind} a minute, as set or as the server says", rate)


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"embedding_remote_{name}", meaning, value)
