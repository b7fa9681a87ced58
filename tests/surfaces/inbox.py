"""The Inbox as Intercom plays it: requests of documented shapes, signed; canvases that its schemas allow."""

import hashlib
import hmac
import json
from typing import Any

import httpx

from tests.plugins.service import Service
from tests.surfaces.canvas_kit import problems

SECRET, OLD_SECRET = "intercom-client-secret", "intercom-client-secret-of-before"
OURS, THEIRS = "abcd1234", "wxyz9876"
INTERCOM = {
    "secrets": [SECRET, OLD_SECRET],
    "workspaces": {OURS: ["meta-main", "twilio-main"], THEIRS: ["twilio-other"]},
}


def payload(workspace: str = OURS, **told: Any) -> dict[str, Any]:
    """Return a request as Intercom documents it."""
    return {
        "workspace_id": workspace,
        "workspace_region": "US",
        "admin": {"type": "admin", "id": "814860", "name": "Test Teammate", "email": "teammate@example.com"},
        "card_creation_options": {},
        "context": {"conversation_id": 471, "location": "conversation", "locale": "en"},
        "conversation": {"type": "conversation", "id": "471"},
        "contact": {"type": "contact", "id": "5ba682d23d7cf92bef87bfd4", "external_id": "cust-1", "phone": None},
        **told,
    }


def contact(phone: str | None) -> dict[str, Any]:
    return {"contact": {"type": "contact", "id": "5ba682d23d7cf92bef87bfd4", "phone": phone}}


def post(
    service: Service, kind: str, told: Any, *, secret: str = SECRET, signature: str | None = None
) -> httpx.Response:
    body = told if isinstance(told, bytes) else json.dumps(told).encode()
    signed = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() if signature is None else signature
    headers = [(b"content-type", b"application/json"), (b"x-body-signature", signed.encode("latin-1"))]
    return service.client().post(f"/surfaces/intercom/{kind}", content=body, headers=headers[: 2 if signed else 1])


def canvas(service: Service, kind: str, told: Any, **options: Any) -> dict[str, Any]:
    """Return the canvas of an answer that Intercom's schemas allow."""
    answer = post(service, kind, told, **options)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    assert problems(kind, answer.content) == []
    return answer.json()["canvas"]


def click(service: Service, id_: str, before: dict[str, Any], **told: Any) -> dict[str, Any]:
    """Click on something in a canvas: it comes back with the click."""
    ids = [
        item["id"]
        for part in before["content"]["components"]
        for item in [part, *part.get("items", ())]
        if "id" in item
    ]
    assert id_ in ids
    return canvas(service, "submit", payload(component_id=id_, current_canvas=before, input_values={}, **told))


def texts(shown_canvas: dict[str, Any]) -> list[str]:
    return [part["text"] for part in shown_canvas["content"]["components"] if part["type"] == "text"]


def rows(shown_canvas: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for part in shown_canvas["content"]["components"] if part["type"] == "list" for item in part["items"]]


def fields(shown_canvas: dict[str, Any]) -> dict[str, str]:
    tables = [part for part in shown_canvas["content"]["components"] if part["type"] == "data-table"]
    return {item["field"]: item["value"] for table in tables for item in table["items"]}
