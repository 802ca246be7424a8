"""Both OpenAPI documents are valid, and every example in them has the shape that it is an example of."""

import json
import pathlib

from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "openapi"
DOCUMENT = "urn:souk:document"
UNSHOWN = {"application/octet-stream"}
METHODS = {"get", "put", "post", "delete", "patch"}


def contents(operation):
    """Every body of an operation that has an example, with where it is. Every request and every success has one, but for
    what is no text."""
    bodies = {"the request": operation.get("requestBody", {})} | operation["responses"]
    for where, body in bodies.items():
        for kind, content in body.get("content", {}).items():
            must = (where == "the request" or where.startswith("2")) and kind not in UNSHOWN
            assert "example" in content or not must, f"{operation['operationId']}: {where} as {kind} has no example"
            if "example" in content:
                yield f"{where} as {kind}", content


def examples_of(schema, path):
    """Every example within a schema, with its place."""
    if not isinstance(schema, dict):
        return
    if "example" in schema:
        yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from examples_of(part, f"{path}.{name}")
    for combined in ("allOf", "oneOf", "anyOf"):
        for part in schema.get(combined, []):
            yield from examples_of(part, path)
    yield from examples_of(schema.get("items"), f"{path}[]")


def within(schema):
    """The schema with its references leading into the document, wherever it is taken out of it."""
    if isinstance(schema, list):
        return [within(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    led = {name: within(part) for name, part in schema.items() if name != "example"}
    if isinstance(led.get("$ref"), str):
        led["$ref"] = led["$ref"].replace("#", f"{DOCUMENT}#", 1)
    return led


def check(name):
    document = json.loads((FOLDER / name).read_text())
    validate(document)
    resource = Resource.from_contents(within(document), default_specification=DRAFT202012)
    registry = Registry().with_resource(DOCUMENT, resource)

    def faults(schema, example):
        validator = OAS31Validator(within(schema), registry=registry)
        return [error.message for error in validator.iter_errors(example)]

    count = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if method not in METHODS:
                continue
            for where, content in contents(operation):
                found = faults(content["schema"], content["example"])
                assert not found, f"{name}: {method} {path}, {where}: {found}"
                count += 1
    for schema_name, schema in document["components"]["schemas"].items():
        for place, part in examples_of(schema, schema_name):
            found = faults(part, part["example"])
            assert not found, f"{name}: {place}: {found}"
            count += 1
    return count


print({name: check(name) for name in ["registry.json", "gateway.json"]})
