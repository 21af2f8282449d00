"""The Flink job; the only package that imports pyflink."""
