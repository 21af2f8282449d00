"""A table's way to another model while it is written and searched: a twin that is filled, and takes its name."""
