"""The server against its own OpenAPI, by schemathesis: what is sent fits the schema, or does not by one mutation."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OPERATIONS = [
    ("POST", "/v1/digest", POSITIVE, 12),
    ("POST", "/v1/digest", NEGATIVE, 60),
    ("GET", "/health", POSITIVE, 1),  # without parameters there is nothing to vary
    ("GET", "/ready", POSITIVE, 1),
    ("GET", "/metrics", POSITIVE, 1),
]


@pytest.mark.parametrize(("method", "path", "mode", "examples"), OPERATIONS)
def test_every_answer_is_one_that_the_description_names_and_none_is_a_server_error(
    server, method, path, mode, examples
):
    operation = schemathesis.openapi.from_url(f"{server.url}/openapi.json")[path][method]
    statuses = set()

    @seed(17)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        # An array with a bad document in it is answered with 200, and the document with its own error.
        response = case.call_and_validate(excluded_checks=[negative_data_rejection])
        statuses.add(response.status_code)

    send()
    # Whether a negative case is a whole bad body (422), too many documents (413) or an array with a bad document (200)
    # is the generator's choice.
    assert statuses <= ({200, 413, 422} if mode == NEGATIVE else {200})
    assert statuses


def test_the_description_names_what_a_document_and_a_digest_are(server):
    description = httpx.get(f"{server.url}/openapi.json").json()
    schemas = description["components"]["schemas"]
    assert set(schemas["DocumentResult"]["required"]) == {"digest", "covered_share", "error"}
    answer = description["paths"]["/v1/digest"]["post"]["responses"]["200"]
    assert set(answer["headers"]) == {"SmartDevDigest-Model", "SmartDevDigest-Covered-Share"}
    assert {"source_type", "url", "language", "title", "content"} == set(schemas["CrawlRecord"]["required"])
    assert set(schemas["Digest"]["properties"]) == {
        "summary", "keywords", "difficulty_level", "prerequisites", "technical_terms", "processing_time"
    }  # fmt: skip
