"""Writes the JSON Schemas of `agent.yaml` and `cattlegrid.yaml`, by which editors complete and check the two files."""

import json
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from cattlegrid.release.files import AgentFile, ProjectFile

_FILES: Final[dict[str, type[BaseModel]]] = {
    "agent.schema.json": AgentFile,
    "project.schema.json": ProjectFile,
}


def editor_schemas() -> dict[str, str]:
    """The schemas by the name of their file, as indented JSON texts."""
    return {
        name: json.dumps(_schema(model), indent=2, ensure_ascii=False) + "\n"
        for name, model in _FILES.items()
    }


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    schema = model.model_json_schema(by_alias=True, schema_generator=_Readable)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Readable(GenerateJsonSchema):
    """Without the titles that pydantic makes from names: editors show the description."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False
