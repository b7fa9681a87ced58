"""The OpenAPI document: valid, complete, true; and the page that shows it without any download."""

import re
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from ledger.http import app
from ledger.http.api import NativeApi
from ledger.http.compat import CompatApi
from ledger.http.endpoints import Endpoints
from ledger.http.evidence import EvidenceApi
from ledger.http.health import Health
from ledger.http.intercom import IntercomApp
from ledger.http.reports import ReportsApi
from ledger.http.streams import Streams
from tests.http.callbacks import meta, meta_failure, meta_status, new_wamid, only, send
from tests.http.test_api import registered
from tests.plugins.service import Service, eventually

#: Served and not in the document: what describes, and callbacks, whose contract is each provider's own.
UNDOCUMENTED = {"/openapi.json", "/docs", "/docs/style.css"}
METHODS = {"get", "post", "put", "patch", "delete", "head", "options", "trace"}


@pytest.fixture(scope="module")
def document(service: Service) -> dict[str, Any]:
    answer = service.client().get("/openapi.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, told) for path, methods in document["paths"].items() for method, told in methods.items()]


def nodes(value: object) -> list[Any]:
    """Return every object in a document."""
    if isinstance(value, dict):
        return [value, *(found for inner in value.values() for found in nodes(inner))]
    if isinstance(value, list):
        return [found for inner in value for found in nodes(inner)]
    return []


def test_the_document_has_the_structure_of_openapi_3_1(document):
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert {"title", "version"} <= set(document["info"])
    assert set(document) <= {"openapi", "info", "servers", "paths", "components", "security", "tags"}
    for path, method, told in operations(document):
        assert path.startswith("/")
        assert method in METHODS
        assert set(told) <= {
            "summary",
            "description",
            "tags",
            "operationId",
            "parameters",
            "requestBody",
            "responses",
            "security",
        }
        assert told["responses"]
        for status, response in told["responses"].items():
            assert re.fullmatch(r"[1-5](\d\d|XX)", status)
            assert response["description"]
            assert set(response) <= {"description", "headers", "content", "links"}


def test_operation_ids_are_unique(document):
    names = [told["operationId"] for _, _, told in operations(document)]

    assert len(names) == len(set(names))


def test_every_reference_leads_somewhere(document):
    references = [node["$ref"] for node in nodes(document) if "$ref" in node]

    assert references
    for reference in references:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]
        assert isinstance(target, dict)


def test_every_schema_is_one(document):
    known = {"string", "integer", "number", "boolean", "array", "object", "null"}
    for schema in document["components"]["schemas"].values():
        assert "type" in schema or "enum" in schema or "anyOf" in schema
    for node in nodes(document["components"]["schemas"]):
        told = node.get("type")
        if isinstance(told, str) and not isinstance(node.get("properties", {}).get("type"), dict):
            assert told in known
        required = node.get("required")
        if isinstance(required, list):
            assert set(required) <= set(node["properties"])


def test_parameters_in_paths_are_described_and_required(document):
    for path, _, told in operations(document):
        described = {one["name"]: one for one in told.get("parameters", ()) if one["in"] == "path"}
        assert set(described) == set(re.findall(r"{(\w+)}", path))
        assert all(one["required"] is True for one in described.values())
        names = [(one["name"], one["in"]) for one in told.get("parameters", ())]
        assert len(names) == len(set(names))
        assert all({"name", "in", "schema"} <= set(one) for one in told.get("parameters", ()))


def test_what_needs_a_key_says_so(service, document):
    schemes = set(document["components"]["securitySchemes"])
    for path, method, told in operations(document):
        named = {name for requirement in told.get("security", ()) for name in requirement}
        assert named <= schemes
        concrete = path.format(channel="sms", message_id=1, partition=0, endpoint_id="wh_1", delivery_id="0-1")
        body = {"to": "failed", "by": "a", "why": "b"} if path.endswith("corrections") else {"failure": {"text": "a"}}
        asked = {"channel": "sms"} if path == "/v1/messages" else body
        answer = service.client().request(method, concrete, json=asked if method in ("post", "patch") else None)
        assert bool(named) == (answer.status_code in (400, 401)), path


def test_every_route_served_is_documented(document):
    nothing: Any = None
    application = app.build(
        edge=nothing,
        webhooks=nothing,
        api=NativeApi(
            edge=nothing, ledger=nothing, access=nothing, messages=nothing, accounts={}, providers={}, public_url=None
        ),
        compat=CompatApi(edge=nothing, access=nothing, messages=nothing),
        evidence=EvidenceApi(nothing, nothing, nothing),
        health=Health(nothing, nothing, multiprocess=False, draining=lambda: False),
        streams=Streams(
            edge=nothing, ledger=nothing, access=nothing, messages=nothing, broadcaster=nothing, public_url=None
        ),
        intercom=IntercomApp(edge=nothing, ledger=nothing, messages=nothing, settings=None),
        reports=ReportsApi(edge=nothing, access=nothing, reporting=nothing),
        traffic=nothing,
        endpoints=Endpoints(edge=nothing, ledger=nothing, access=nothing, guard=nothing),
        screens=(),  # pages are not part of the API
    )
    routes: Any = application._routed

    served = {
        (route.path.replace("{channel:channel}", "{channel}"), method.lower())
        for route in routes.router.routes
        for method in route.methods - {"HEAD"}
        if route.path not in UNDOCUMENTED and not route.path.startswith("/pages/")
    }

    assert served == {(path, method) for path, method, _ in operations(document)}


def conforms(value: Any, schema: dict[str, Any], document: dict[str, Any], place: str = "$") -> list[str]:
    """Check a value against the part of JSON Schema that the document uses; return what does not fit."""
    if "$ref" in schema:
        return conforms(value, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document, place)
    if "anyOf" in schema:
        tries = [conforms(value, one, document, place) for one in schema["anyOf"]]
        return [] if [] in tries else [f"{place}: fits none of {len(tries)}", *tries[0]]
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{place}: {value!r} is not in the enumeration"]
    types = {
        "string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list, "object": dict,
        "null": type(None),
    }  # fmt: skip
    told = schema.get("type")
    if told is not None and not isinstance(value, types[told]):
        return [f"{place}: {value!r} is no {told}"]
    if isinstance(value, list):
        return [
            one
            for index, item in enumerate(value)
            for one in conforms(item, schema.get("items", {}), document, f"{place}[{index}]")
        ]
    if isinstance(value, dict):
        properties, extra = schema.get("properties", {}), schema.get("additionalProperties")
        missing = [f"{place}.{name}: missing" for name in schema.get("required", ()) if name not in value]
        unknown = [f"{place}.{name}: not described" for name in value if name not in properties] if not extra else []
        inner = [
            one
            for name, item in value.items()
            for one in conforms(
                item, properties.get(name, extra if isinstance(extra, dict) else {}), document, f"{place}.{name}"
            )
        ]
        return missing + unknown + inner
    return []


def described(document: dict[str, Any], path: str, method: str, answer: Any) -> list[str]:
    """Compare an answer with what the document says about it."""
    responses = document["paths"][path][method]["responses"]
    told = responses.get(str(answer.status_code)) or responses.get(f"{answer.status_code // 100}XX")
    if told is None:
        return [f"{answer.status_code} is not described"]
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    if not answer.content:
        return ["content is described"] if "content" in told else []
    if media_type not in told.get("content", {}):
        return [f"{media_type} is not described"]
    schema = told["content"][media_type]["schema"]
    return conforms(answer.json() if "json" in media_type else answer.text, schema, document)


SIGNED = [f"/surfaces/intercom/{name}" for name in ("initialize", "submit", "configure")]


def head_of(api: httpx.Client, path: str) -> httpx.Response:
    """Ask for a stream, and return its beginning as the answer: it has no end."""
    with api.stream("GET", path) as answer:
        return httpx.Response(answer.status_code, headers=answer.headers, text=next(answer.iter_text()))


def test_answers_are_as_described(service, document):
    api, wamid = service.api(), new_wamid()
    send(service, meta(meta_status(wamid, "delivered", recipient_id="12025550123"), meta_failure(wamid)))
    send(service, meta(meta_status(new_wamid(), "levitating")))  # waits for attention
    message_id = only(api, wamid)["message_id"]
    failed = registered(api, failure={"code": "1", "text": "Phone number is missing."})
    tag = {"if-none-match": api.get(f"/v1/messages/{message_id}").headers["etag"]}
    correction = {"to": "failed", "by": "a", "why": "b"}
    by_id, compat = "/v1/messages/{message_id}", "/api/v1/{channel}/messages"

    asked = [
        ("/v1/messages", "post", api.post("/v1/messages", json={"channel": "whatsapp"})),
        ("/v1/messages", "post", api.post("/v1/messages", json={})),
        ("/v1/messages", "get", api.get("/v1/messages")),
        ("/v1/messages", "get", api.get("/v1/messages?limit=0")),
        ("/v1/messages", "get", service.client().get("/v1/messages")),
        (by_id, "get", api.get(f"/v1/messages/{message_id}")),
        (by_id, "get", api.get(f"/v1/messages/{failed}")),
        (by_id, "get", api.get(f"/v1/messages/{message_id}", headers=tag)),
        (by_id, "get", api.get("/v1/messages/1")),
        (f"{by_id}/history", "get", api.get(f"/v1/messages/{message_id}/history")),
        (
            f"{by_id}/handoff",
            "post",
            api.post(f"/v1/messages/{failed}/handoff", json={"provider_message_id": new_wamid()}),
        ),
        (f"{by_id}/handoff", "post", api.post(f"/v1/messages/{message_id}/handoff", json={"provider_message_id": "x"})),
        (f"{by_id}/corrections", "post", api.post(f"/v1/messages/{message_id}/corrections", json=correction)),
        (f"{by_id}/corrections", "post", api.post(f"/v1/messages/{message_id}/corrections", json=correction)),
        (f"{compat}/{{message_id}}", "get", api.get(f"/api/v1/whatsapp/messages/{message_id}")),
        (f"{compat}/{{message_id}}", "get", api.get("/api/v1/whatsapp/messages/1")),
        (compat, "get", api.get("/api/v1/whatsapp/messages")),
        (f"{compat}/", "get", api.get("/api/v1/whatsapp/messages/")),
        ("/v1/checkpoints", "get", api.get("/v1/checkpoints")),
        ("/v1/checkpoints/{partition}", "get", api.get("/v1/checkpoints/0")),
        ("/v1/checkpoints/{partition}", "get", api.get("/v1/checkpoints/999")),
        *(
            (path, "get", head_of(api, path.format(message_id=message_id)))
            for path in (f"{by_id}/events", "/v1/events")
        ),
        ("/v1/events", "get", api.get("/v1/events?status=NONE")),
        *((path, "post", api.post(path)) for path in SIGNED),
        *(
            (f"/v1/reports/{name}", "get", api.get(f"/v1/reports/{name}{query}"))
            for name in ("delivery", "failures", "latency", "stuck", "providers")
            for query in ("", "?since=never" if name != "stuck" else "?limit=0")
        ),
        ("/v1/attention", "get", api.get("/v1/attention")),
        ("/v1/attention/resolutions", "post", api.post("/v1/attention/resolutions", json={})),
        ("/v1/attention/resolutions", "post", api.post("/v1/attention/resolutions", json=resolution(api))),
        ("/livez", "get", api.get("/livez")),
        ("/readyz", "get", api.get("/readyz")),
        ("/metrics", "get", api.get("/metrics")),
    ]

    known = {(path, method) for path, method, _ in operations(document)}
    elsewhere = {(path, method) for path, method in known if path.startswith("/v1/webhooks")}  # tests/outbound
    assert {(path, method) for path, method, _ in asked} == known - elsewhere
    wrong = {
        f"{method} {path} {answer.status_code}": described(document, path, method, answer)
        for path, method, answer in asked
    }
    assert {} == {name: problems for name, problems in wrong.items() if problems}


def resolution(api):
    """Return what resolves the first item that waits, which is there once the log has been followed."""
    (item, *_) = eventually(lambda: api.get("/v1/attention").json()["items"], "something waits for attention")
    return {"item": item["item"], "seen_through": item["last_seen"], "by": "support-1", "why": "looked into"}


# The page


class Links(HTMLParser):
    """Collects everything a browser would load or follow, and anything that runs."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.running: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        told = dict(attributes)
        self.links += [value for name in ("href", "src", "action", "data") if (value := told.get(name))]
        self.anchors.add(told.get("id") or "")
        self.running += [tag] if tag in ("script", "iframe", "object", "embed") else []
        self.running += [name for name in told if name.startswith("on") or name == "style"]


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(service):
    answer = service.client().get("/docs")
    page = Links()
    page.feed(answer.text)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert page.running == []
    outside = [link for link in page.links if not link.startswith("#")]
    assert set(outside) == {"/docs/style.css", "/openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= page.anchors
    for link in outside:
        assert service.client().get(link).status_code == 200


def test_the_page_is_kept_from_doing_more_by_its_headers(service):
    for path in ("/docs", "/docs/style.css", "/openapi.json"):
        headers = service.client().get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
    assert service.client().get("/docs/style.css").headers["content-type"] == "text/css; charset=utf-8"
    assert "url(" not in service.client().get("/docs/style.css").text


def test_the_page_shows_every_route_and_every_shape(service, document):
    text = service.client().get("/docs").text

    for path, method, told in operations(document):
        assert f"<b>{method.upper()}</b> <code>{path}</code>" in text
        assert told["summary"].replace("'", "&#x27;") in text
    for name in document["components"]["schemas"]:
        assert f"id='{name}'" in text
