"""The vector index of the table: what state it is in, how it is built, when it is built by itself."""
