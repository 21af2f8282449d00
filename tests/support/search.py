"""Searches over a connection of the test's own."""

from embedstream.search.conditions import as_filter, parse_where
from embedstream.search.looking import Table, look
from embedstream.search.request import Request


def answer(connection, settings, vector=None, **facts):
    numbers = None if vector is None else [float(number) for number in vector]
    if "query" not in facts and "id" not in facts:
        facts["vector"] = numbers
    return look(connection, settings, Table.read(connection, settings), Request(**facts), numbers)


def nearest(connection, settings, vector, k=10, **facts):
    return list(answer(connection, settings, vector, k=k, **facts).hits)


def where(*conditions):
    return as_filter(parse_where(conditions))
