"""The SQL of the store, in files."""
