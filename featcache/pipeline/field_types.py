"""Types of the fields of a pipeline file: names that must be known, names of files, and lists of names."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from featcache.errors import StoreError, unknown_name
from featcache.evaluate.scores import SCORES, find_score
from featcache.extractors import DESCRIPTORS, find_extractor, is_reference
from featcache.extractors.models import known_models, known_text_models
from featcache.heads import head_spec
from featcache.registry import Registry
from featcache.workspace import check_name


def known_head(name: str) -> str:
    """Check that a head is known, or is external code that the user named."""
    head_spec(name)
    return name


def one_of(kind: str, names: Iterable[str]) -> AfterValidator:
    """Return a check that a name is known; for a registry, that it may be used. External code is not imported."""
    known = names if isinstance(names, Registry) else tuple(names)

    def check(name: str) -> str:
        if name not in known:
            raise ValueError(known.refusal(name) if isinstance(known, Registry) else unknown_name(kind, name, known))
        return name

    return AfterValidator(check)


def check_model(model: str) -> str:
    """Check that a model is external code that the user named, a known short name, or an id or path with a slash."""
    if is_reference(model):
        find_extractor(model)
        return model
    if "/" not in model and model not in known_models():
        raise ValueError(unknown_name("model", model, (*DESCRIPTORS, *known_models())))
    return model


def check_metric(metric: str) -> str:
    """Check that a score is known: ``uar``, ``ccc`` (mean of the dimensions), ``ccc_valence`` and so on."""
    try:
        find_score(metric)
    except KeyError:
        known = [*SCORES, *(f"{score.name}_DIMENSION" for score in SCORES.values() if score.of_dimensions)]
        raise ValueError(unknown_name("metric", metric, known)) from None
    return metric


def check_text_model(model: str) -> str:
    """Check that a text model is a known short name, or an id or path with a slash."""
    if "/" not in model and model not in known_text_models():
        raise ValueError(unknown_name("text model", model, known_text_models()))
    return model


def named(kind: str) -> AfterValidator:
    """Return a check that a name is a valid file name."""

    def check(name: str) -> str:
        try:
            return check_name(kind, name, advice="choose another")
        except StoreError as error:
            raise ValueError(str(error)) from error

    return AfterValidator(check)


def several(value: Any) -> Any:
    """Return a list of a single name; other values are not changed."""
    return [value] if isinstance(value, str) else value


def _two(value: Any) -> Any:
    given = several(value)
    if isinstance(given, list) and len(given) != 2:
        raise ValueError(f"expected two runs, found {len(given)}")
    return given


FileName = Annotated[str, named("file")]
Pair = Annotated[tuple[str, str], BeforeValidator(_two)]
Names = Annotated[tuple[str, ...], BeforeValidator(several), Field(min_length=1)]
