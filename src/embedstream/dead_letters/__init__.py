"""The messages that were rejected: to look at, to send again, to take away."""
