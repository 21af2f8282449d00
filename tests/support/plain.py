"""What a reader of any format may give."""

from embedstream.errors import Rejected, RetryLater


def outcome(call, *arguments):
    """What it gives, or what it raises of ours."""
    try:
        return call(*arguments)
    except (Rejected, RetryLater) as exc:
        return exc


def is_plain(value):
    """Whether it is what JSON could have: so it can be written, mapped and stored."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(map(is_plain, value))
    return value is None or type(value) in (str, int, float, bool)
