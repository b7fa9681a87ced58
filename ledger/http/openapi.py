"""OpenAPI 3.1, generated from the routes and the structs they speak, and a page that shows it without any download."""

import re
from html import escape
from typing import Any

import msgspec

from ledger import __version__
from ledger.http.parameters import Parameter
from ledger.http.problems import CONTENT_TYPE, ProblemBody
from ledger.http.routes import Operation

_REF = "#/components/schemas/{name}"


def document(operations: list[Operation]) -> dict[str, Any]:
    types: list[Any] = [ProblemBody]
    for operation in operations:
        types += [type_ for _, type_ in operation.answers.values() if isinstance(type_, type) and type_ not in types]
        types += [type_ for type_ in (operation.request, operation.error) if type_ is not None and type_ not in types]
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
        if operation.names is not None:
            links = _links(*operation.names, operations)
            described["responses"][str(min(operation.answers))]["links"] = links
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Status Ledger",
            "version": __version__,
            "description": "What happened to a message, why, and the proof.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-Octopods-Auth"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _name(operation: Operation) -> str:
    return re.sub(r"[^a-z0-9]+", "_", f"{operation.method.lower()}{operation.path}")


def _links(parameter: str, place: str, operations: list[Operation]) -> dict[str, Any]:
    """Return what can be done with something that an answer names."""
    value = {parameter: f"$response.body#{place}"}
    return {
        _name(operation): {"operationId": _name(operation), "parameters": value}
        for operation in operations
        if parameter in (told.name for told in operation.parameters if told.place == "path")
    }


def _operation(operation: Operation) -> dict[str, Any]:
    responses = {
        str(status): _response(text, type_, CONTENT_TYPE if type_ is ProblemBody else "application/json")
        for status, (text, type_) in operation.answers.items()
    }
    for form in operation.forms:
        responses["200"]["content"][form] = {"schema": {"type": "string"}}
    error_type = operation.error or ProblemBody
    media_type = "application/json" if operation.error else CONTENT_TYPE
    if operation.needs_key:
        responses["4XX"] = _response("The request was not accepted.", error_type, media_type)
        responses["4XX"]["content"].setdefault(CONTENT_TYPE, {"schema": {"$ref": _REF.format(name="ProblemBody")}})
        responses["503"] = _response("Nothing was recorded or read; try again shortly.", ProblemBody)
    described: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [operation.group],
        "operationId": _name(operation),
        "responses": responses,
    }
    if operation.parameters:
        described["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.request is not None:
        schema = {"$ref": _REF.format(name=operation.request.__name__)}
        described["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if operation.needs_key:
        described["security"] = [{"key": []}, {"bearer": []}]
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    told: dict[str, Any] = {"name": parameter.name, "in": parameter.place, "schema": parameter.schema}
    if parameter.is_list:
        told |= {"style": "form", "explode": False}
    if parameter.description:
        told["description"] = parameter.description
    if parameter.place == "path":
        told["required"] = True
    return told


def _response(text: str, type_: Any, media_type: str = "application/json") -> dict[str, Any]:
    told: dict[str, Any] = {"description": text}
    media_type = CONTENT_TYPE if type_ is ProblemBody else media_type
    if isinstance(type_, str):
        told["content"] = {type_: {"schema": {"type": "string"}}}
    elif type_ is not None:
        told["content"] = {media_type: {"schema": {"$ref": _REF.format(name=type_.__name__)}}}
    return told


# Page -----------------------------------------------------------------------------------------------------------------

STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 15%, transparent); }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; }
details { border: 1px solid var(--line); border-radius: .5rem; margin: .5rem 0; padding: .5rem .8rem; }
summary { cursor: pointer; } code, b { font: 600 .92em ui-monospace, monospace; }
b { display: inline-block; min-width: 3.4rem; }
td { padding: .2rem .8rem .2rem 0; vertical-align: top; }
small { opacity: .7; }
"""


def page(described: dict[str, Any]) -> str:
    """Render the document as one page without scripts."""
    groups: dict[str, list[str]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(_entry(path, method, operation))
    body = "".join(f"<h2>{escape(group)}</h2>{''.join(entries)}" for group, entries in groups.items())
    schemas = "".join(_schema(name, schema) for name, schema in described["components"]["schemas"].items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>Status Ledger API</title><link rel=stylesheet href=/docs/style.css>"
        f"<h1>Status Ledger API</h1><p><small>Version {escape(described['info']['version'])}, "
        "<a href=/openapi.json>OpenAPI 3.1</a>. Send your key as <code>X-Octopods-Auth</code> or "
        f"<code>Authorization: Bearer</code>.</small>{body}<h2>Shapes</h2>{schemas}"
    )


def _entry(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(told['name'])}</code><td>{escape(told['in'])}<td>{escape(told.get('description', ''))}"
        for told in operation.get("parameters", ())
    )
    body = ""
    if "requestBody" in operation:
        body = f"<p>Body: {_link(operation['requestBody']['content']['application/json']['schema'])}"
    answers = "".join(
        f"<tr><td><code>{status}</code><td>{escape(told['description'])}<td>"
        + " ".join(_link(content["schema"]) for content in told.get("content", {}).values())
        for status, told in operation["responses"].items()
    )
    title = f"<b>{method.upper()}</b> <code>{escape(path)}</code> {escape(operation['summary'])}"
    return f"<details><summary>{title}</summary><table>{rows}</table>{body}<table>{answers}</table></details>"


def _schema(name: str, schema: dict[str, Any]) -> str:
    optional = set(schema.get("properties", {})) - set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{escape(field)}</code>{' <small>optional</small>' * (field in optional)}<td>{_link(told)}"
        for field, told in schema.get("properties", {}).items()
    )
    about = schema.get("description") or ", ".join(map(str, schema.get("enum", ())))
    return (
        f"<details id='{escape(name)}'><summary><code>{escape(name)}</code> {escape(about)}</summary>"
        f"<table>{rows}</table></details>"
    )


def _link(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href='#{name}'>{name}</a>"
    if "anyOf" in schema:
        return " or ".join(_link(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_link(schema.get('items', {}))}"
    return escape(str(schema.get("format") or schema.get("type") or "value"))
