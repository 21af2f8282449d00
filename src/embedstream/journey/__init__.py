"""What became of a message: where each version of its id stands in the topic, and its outcome."""
