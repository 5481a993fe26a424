"""Pipeline, model of the user → the same pipeline with this model in place of its own."""

from typing import Any, TypeVar

from pydantic import ValidationError

from featcache.errors import PipelineError
from featcache.extractors import is_descriptors, store_name
from featcache.pipeline.schema import Pipeline, RunSettings, StoreSpec
from featcache.settings.checked import describe_fault

Settings = TypeVar("Settings", bound=RunSettings)


def with_model(pipeline: Pipeline, model: str) -> Pipeline:
    """Return a pipeline with another speech model.

    The names of the model's stores follow the model: ``wav2vec2-base-raw`` becomes ``whisper-base-raw``. The stores of
    two models therefore never have the same name.

    Args:
        pipeline: The pipeline. All its stores of speech models have the same model.
        model: Short name, Hugging Face id, folder, or external code that the user named.

    Raises:
        PipelineError: The pipeline has no speech model or several, or its options do not apply to this model.
    """
    own = {name: spec for name, spec in pipeline.stores.items() if spec.model is not None and spec.is_model}
    models = list(dict.fromkeys(str(spec.model) for spec in own.values()))
    if len(models) != 1:
        found = f"{len(models)} speech models ({', '.join(models)})" if models else "no speech model"
        raise PipelineError(
            f"--model {model}: the pipeline has {found}; the option replaces the only model of a pipeline"
        )
    names = {name: _renamed(name, models[0], model) for name in own}
    stores = {
        names.get(name, name): _changed(spec, model) if name in own else spec for name, spec in pipeline.stores.items()
    }
    if len(stores) < len(pipeline.stores):
        raise PipelineError(f"--model {model}: its store would have the name of another store of the pipeline")
    return pipeline.model_copy(
        update={
            "stores": stores,
            "defaults": _reading(pipeline.defaults, names),
            "runs": {name: _reading(run, names) for name, run in pipeline.runs.items()},
        }
    )


def _renamed(name: str, replaced: str, model: str) -> str:
    old, new = store_name(replaced), store_name(model)
    return new + name.removeprefix(old) if name.startswith(old) else f"{new}-{name}"


def _changed(spec: StoreSpec, model: str) -> StoreSpec:
    try:
        changed = StoreSpec.model_validate({**spec.model_dump(exclude_unset=True), "model": model})
    except ValidationError as error:
        raise PipelineError(f"--model {model}: {describe_fault(error.errors()[0])}") from error
    if is_descriptors(model):
        raise PipelineError(f"--model {model}: these features have no layers; name a speech model")
    return changed


def _reading(run: Settings, names: dict[str, str]) -> Settings:
    """Return a run, or the defaults of runs, that reads the renamed stores."""
    if "features" not in run.model_fields_set:
        return run
    changed: dict[str, Any] = {"features": tuple(names.get(name, name) for name in run.features)}
    return run.model_copy(update=changed)
