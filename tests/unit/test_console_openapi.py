"""The console's own description of its API, against the routes and against what they do."""

from datetime import UTC, datetime

import pytest
import schemathesis
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from embedstream.search.answer import Answer, Chunk, Hit, Places
from support.console import console

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]
MOMENT = datetime(2026, 11, 28, tzinfo=UTC)
WHOLE = Hit("a", 0.5, 0.03, "text", None, MOMENT, {}, places=Places(1, None))
PART = Hit(
    "b", None, 0.02, "text", "s", MOMENT, {"n": 1}, chunk=Chunk(0, 0, 4), highlights=((0, 4),), matching_chunks=2
)
APP = console(answer=Answer((WHOLE, PART), "filter", complete=False, as_of=None))
schema = schemathesis.openapi.from_wsgi("/openapi.json", APP)
TESTED = set()


def answers_are_as_described(path):
    TESTED.add(path)

    @schema.include(path=path).parametrize()
    @hypothesis_settings(max_examples=50, deadline=None)
    @pytest.mark.timeout(300)
    def test(case):
        case.call_and_validate(checks=CHECKS)

    return test


test_searches_are_answered_as_described = answers_are_as_described("/v1/search")
test_pipelines_are_answered_as_described = answers_are_as_described("/v1/pipelines")
test_the_console_s_health_is_as_described = answers_are_as_described("/health")


def test_every_route_for_programs_is_described():
    """MCP has a description of its own."""
    rules = {rule.rule for rule in APP.url_map.iter_rules() if rule.endpoint.startswith("api.")}
    assert rules == {*schema.raw_schema["paths"], "/openapi.json", "/mcp"}
    assert set(schema.raw_schema["paths"]) == TESTED
