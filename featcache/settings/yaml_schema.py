"""Base class of the parts of a YAML file that users write, and the faults that pydantic finds in it."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from featcache.errors import unknown_name
from featcache.settings.checked import describe_fault

UNKNOWN_FIELD = "unknown_field"


class YamlPart(BaseModel):
    """The base class of all parts of a file: immutable, without unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _check_fields(cls, given: Any) -> Any:
        for name in given if isinstance(given, dict) else ():
            if name not in cls.known_fields():
                told = cls.unknown_field(name)
                raise PydanticCustomError(UNKNOWN_FIELD, "{told}", {"told": told, "field": name})
        return given

    @classmethod
    def unknown_field(cls, name: str) -> str:
        """Return the message about an unknown field."""
        return unknown_name("field", name, cls.known_fields())

    @classmethod
    def known_fields(cls) -> list[str]:
        """Return the names of the fields in a file."""
        return [field.alias or name for name, field in cls.model_fields.items()]


def placed_faults(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Return the place and the description of each fault that pydantic found."""
    return [_placed(fault) for fault in error.errors()]


def _placed(fault: Any) -> tuple[tuple[str | int, ...], str]:
    place: tuple[str | int, ...] = fault["loc"]
    context = fault.get("ctx", {})
    if fault["type"] == UNKNOWN_FIELD:
        return (*place, context["field"]), context["told"]
    return place[:-1] if fault["type"] == "missing" else place, describe_fault(fault)
