"""HubSpot's published schemas. What we send is read strictly: a field that they do not name is a mistake.

`hubspot_schemas.json` tells where they are from.
"""

import json
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema

_PUBLISHED: Final = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))


_formats: Final = jsonschema.FormatChecker()


@_formats.checks("date-time", raises=ValueError)
def _is_instant(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def check(name: str, body: object, *, is_ours: bool = True) -> None:
    """Raise jsonschema.ValidationError unless the body is as the schema of that name says.

    `is_ours`: no other fields than those named. HubSpot's own answers have more.
    """
    _validator(name, is_ours).validate(body)


@cache
def _validator(name: str, is_ours: bool) -> jsonschema.Draft202012Validator:
    schemas = {each: _closed(schema) if is_ours else schema for each, schema in _PUBLISHED["schemas"].items()}
    return jsonschema.Draft202012Validator({"$ref": f"#/schemas/{name}", "schemas": schemas}, format_checker=_formats)


def _closed(schema: Any) -> Any:
    """Return a schema whose objects have no other fields than those named."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {key: _closed(value) for key, value in schema.items()}
    return {"additionalProperties": False, **told} if told.get("type") == "object" else told
