"""The service's own description, against the routes and against what they do."""

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

from embedstream.service.embedder import Embedder
from embedstream.service.engine.fake import HashEngine
from embedstream.service.http.app import create_app
from embedstream.settings import Settings

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
]


def ready_app():
    embedder = Embedder(queue_texts=8192, requests=64)
    embedder.start(HashEngine(8))
    return create_app(embedder, Settings())


APP = ready_app()
schema = schemathesis.openapi.from_wsgi("/openapi.json", APP)
TESTED = set()


def answers_are_as_described(path):
    """The test of a path; one of all paths would be several of the same id, of which pytest-xdist runs one."""
    TESTED.add(path)

    @schema.include(path=path).parametrize()
    @hypothesis_settings(max_examples=50, deadline=None)
    @pytest.mark.timeout(300)
    def test(case):
        case.call_and_validate(checks=CHECKS)

    return test


test_generate_answers_as_described = answers_are_as_described("/generate")
test_openai_s_embeddings_answer_as_described = answers_are_as_described("/v1/embeddings")
test_the_models_answer_as_described = answers_are_as_described("/v1/models")
test_a_model_answers_as_described = answers_are_as_described("/v1/models/{name}")
test_health_answers_as_described = answers_are_as_described("/health")
test_info_answers_as_described = answers_are_as_described("/info")
test_the_tokenizer_answers_as_described = answers_are_as_described("/tokenizer")
test_the_canary_answers_as_described = answers_are_as_described("/canary")
test_metrics_answer_as_described = answers_are_as_described("/metrics")
test_the_description_answers_as_described = answers_are_as_described("/openapi.json")


def test_every_route_is_described_and_there_is_no_other():
    routes = {
        (rule.rule.replace("<path:name>", "{name}"), method)
        for rule in APP.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    paths = schema.raw_schema["paths"]
    assert set(paths) == TESTED
    assert routes == {(path, method.upper()) for path, methods in paths.items() for method in methods}
