"""What became of a message: where each version of its id stands in the topic, and its outcome."""

from embedstream.journey.report import At, Entry, Journey, Letter, Looked, Row, Version
from embedstream.journey.scan import LIMIT, Bounds
from embedstream.journey.trace import at, journey

__all__ = ["LIMIT", "At", "Bounds", "Entry", "Journey", "Letter", "Looked", "Row", "Version", "at", "journey"]
