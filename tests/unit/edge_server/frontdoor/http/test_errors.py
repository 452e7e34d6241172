"""Errors of HTTP's own say what would have been right."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from edge_server.frontdoor.http import errors


def test_a_wrong_method_is_told_the_methods_of_all_routes_of_its_path() -> None:
    app, router = FastAPI(), APIRouter()
    errors.install(app)

    @router.get("/things")
    def listed() -> list[str]:
        return []

    @router.delete("/things")
    def forgotten() -> None:
        return None

    @app.post("/others")
    def made() -> None:
        return None

    app.include_router(router)
    with TestClient(app) as client:
        refused = client.options("/things")
        assert refused.status_code == 405
        assert refused.headers["Allow"] == "GET, HEAD, DELETE"
        assert refused.json()["error"]["code"] == "method_not_allowed"
        assert client.get("/others").headers["Allow"] == "POST"
