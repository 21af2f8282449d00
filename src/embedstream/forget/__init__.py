"""Deletes an id, waits until its row is gone, and tells where its text still stands."""

from embedstream.forget.erase import Copy, Erasure, Kept, Relation, forget

__all__ = ["Copy", "Erasure", "Kept", "Relation", "forget"]
