"""What Intercom says of a canvas: the schemas of its own library, read strictly, and the limits of its documents.

The library lets pass what it does not know, so that it can read what later versions send. What we send has to be of the
kind that is described: no other member, no other word, and nothing null.
"""

import json
from functools import cache
from typing import Any

import jsonschema
from intercom.types import ConfigureResponse, InitializeResponse, SubmitResponse
from pydantic import TypeAdapter

BYTES_MAX = 64 * 1024
RESPONSES: dict[str, Any] = {
    "initialize": InitializeResponse,
    "submit": SubmitResponse,
    "configure": ConfigureResponse,
}


@cache
def _validator(request: str) -> jsonschema.Draft202012Validator:
    schema = _strict(TypeAdapter(RESPONSES[request]).json_schema())
    return jsonschema.Draft202012Validator(schema)


def _strict(schema: Any, name: str = "") -> Any:
    if isinstance(schema, list):
        return [_strict(each) for each in schema]
    if not isinstance(schema, dict) or name == "stored_data":  # ours to fill
        return schema
    told = {field: _strict(value, field) for field, value in schema.items()}
    if "anyOf" in told:
        told["anyOf"] = [each for each in told["anyOf"] if each not in ({}, {"type": "null"})]
    if isinstance(told.get("properties"), dict):
        told["additionalProperties"] = False
        fixed = [field for field, each in told["properties"].items() if isinstance(each, dict) and "const" in each]
        told["required"] = sorted({*told.get("required", ()), *(field for field in fixed if field == "type")})
    return told


def problems(request: str, body: bytes) -> list[str]:
    """Return what is wrong with an answer to a request of this kind."""
    answer = json.loads(body)
    found = [f"{error.json_path}: {error.message[:200]}" for error in _validator(request).iter_errors(answer)]
    if "canvas" in answer:
        content, stored = answer["canvas"]["content"], answer["canvas"].get("stored_data", {})
        found += [f"{len(body)} bytes" for part in (content, stored) if len(json.dumps(part).encode()) > BYTES_MAX]
        ids = [component["id"] for component in content["components"] if "id" in component]
        ids += [
            item["id"] for component in content["components"] for item in component.get("items", ()) if "id" in item
        ]
        found += [f"{id_} is not unique" for id_ in set(ids) if ids.count(id_) > 1]
        found += ["an empty list" for component in content["components"] if component.get("items") == []]
    return found
