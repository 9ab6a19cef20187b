"""The document describes exactly the routes that are served, and is valid where programs read it."""

import re
from typing import Any

from hyperhive.protocol.answers import ANSWERS
from hyperhive.protocol.requests import REQUESTS
from hyperhive.web.openapi import as_text, document
from parts import ROOT
from web_client import Served


def test_the_committed_document_is_what_the_code_says() -> None:
    path = ROOT / "src/hyperhive/web/frontend/openapi.json"
    assert path.read_text() == as_text(), "it is stale: run `make docs`"


async def test_it_has_every_route_and_no_other(served: Served) -> None:
    described = {
        (method.upper(), re.sub(r"\{\w+\}", "*", path))
        for path, methods in document()["paths"].items()
        for method in methods
    }
    web = served.hive._edges.web  # type: ignore[attr-defined]
    await served.stranger().ask("GET", "/")
    routes = web._program.application.app.routes
    there = {
        (method, re.sub(r"\{\w+\}", "*", route.path_format))
        for route in routes
        for method, (handler, _) in route.route_handler_map.items()
        if method != "OPTIONS" and handler.name not in {"page", "asset", "file"}
    }
    assert described == there


def test_every_reference_leads_somewhere_and_every_operation_has_a_name_of_its_own() -> None:
    whole = document()
    schemas = whole["components"]["schemas"]
    for ref in re.findall(r'"#/components/schemas/(\w+)"', as_text()):
        assert ref in schemas
    operations = [one for methods in whole["paths"].values() for one in methods.values()]
    names = [one["operationId"] for one in operations]
    assert len(names) == len(set(names)) > 40
    assert all("default" in one["responses"] for one in operations)


def test_every_request_and_its_reply_are_there() -> None:
    schemas: dict[str, Any] = document()["components"]["schemas"]
    for request in REQUESTS:
        assert request.__name__ in schemas
        assert ANSWERS[request].__name__ in schemas
    for union in ("Request", "Answers", "DashboardEvent", "LiveEvent", "StreamFrame", "Problem"):
        assert union in schemas


def test_a_path_says_what_its_body_does_not_have_to() -> None:
    approve = document()["paths"]["/approve/{id}"]["post"]
    assert [part["name"] for part in approve["parameters"]] == ["id"]
    body = approve["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == {"sha", "diff_sha256"}
    check = document()["paths"]["/api/state-file/check"]["get"]
    assert {part["name"] for part in check["parameters"]} == {"message", "n", "agent", "path"}
