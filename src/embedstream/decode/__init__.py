"""From the bytes of a record to what it asks for."""
