"""Streaming text embeddings from Kafka to PostgreSQL/pgvector."""

__version__ = "0.1.0"
