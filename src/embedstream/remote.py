"""What the service says of the server behind it, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstream.display import duration

if TYPE_CHECKING:
    from collections.abc import Mapping


def as_line(remote: Mapping[str, Any], unread: int | None = None) -> str:
    """What `/info` says of the remote server; with what is unread, how long that takes at the allowed rate."""
    today = remote["today"]
    cost = "" if today["cost"] is None else f", cost {today['cost']:,.4f}"
    facts = [f"{remote['api']}, {today['tokens']:,} tokens today in {today['requests']:,} requests{cost}"]
    if remote["tokens_per_minute"]:
        facts.append(f"{remote['tokens_per_minute']:,.0f} tokens a minute allowed")
    seconds = seconds_at_limit(remote, unread)
    if seconds:
        facts.append(f"the backlog takes {duration(seconds)} at that rate")
    if remote["tokens_per_day"]:
        facts.append(f"{max(0, remote['tokens_per_day'] - today['tokens']):,} tokens left today")
    return "; ".join(facts)


def seconds_at_limit(remote: Mapping[str, Any], unread: int | None) -> float | None:
    """None where the rate, or what a text costs, is not known."""
    if unread is None or not remote["tokens_per_minute"] or remote["tokens_a_text"] is None:
        return None
    return float(60 * unread * remote["tokens_a_text"] / remote["tokens_per_minute"])
