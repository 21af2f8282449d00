"""Avro as a producer writes it, framed for a schema registry."""

import io

import fastavro

from support.registry import framed


class AvroWriter:
    """Writes values of one schema, which the registry knows under `id`."""

    def __init__(self, schema, id):
        self._schema = fastavro.parse_schema(schema)
        self._id = id

    def __call__(self, value):
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, self._schema, value)
        return framed(self._id, stream.getvalue())
