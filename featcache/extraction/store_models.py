"""Settings of a store × ``--model`` → the model that made its features, to compute with it again."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from featcache.cache.identity import WEIGHTS, StoreIdentity
from featcache.cache.reader import FeatureStore
from featcache.cache.tuned_store import TUNED, TunedOrigin
from featcache.errors import FeatcacheError, ModelError, StoreError
from featcache.extractors.base import Extractor
from featcache.extractors.checkpoint import is_folder
from featcache.extractors.models import entry_of, is_path, local_folder
from featcache.extractors.pretrained import UNTRAINED_INSTEAD
from featcache.extractors.references import is_reference
from featcache.files.regular import resolved
from featcache.runs.model_files import checked_model
from featcache.runs.reader import RunFolder, find_run
from featcache.workspace import Workspace, check_name

# Setting that a model folder gets from its name; the checksum of the weights identifies the model.
MODEL_ID = "model_id"


def models_by_store(given: Sequence[str], identities: Mapping[str, StoreIdentity]) -> dict[str, str]:
    """Return name of a store → folder of its model, from ``FOLDER`` or ``STORE=FOLDER``.

    Args:
        given: Values of the option ``--model``.
        identities: Name of each store → its settings.

    Raises:
        ModelError: a store is unknown, or it is not clear to which store a folder belongs.
    """
    names = list(identities)
    with_models = _with_models(identities) or names
    found: dict[str, str] = {}
    for one in given:
        name, separator, model = one.partition("=")
        if not separator or name not in names:
            if len(with_models) != 1:
                raise ModelError(
                    f"--model {one}: the run has several models; expected STORE=FOLDER, with one of {', '.join(names)}"
                )
            name, model = with_models[0], one
        if name in found:
            raise ModelError(f"--model names {name!r} twice; keep one")
        found[name] = model
    return found


def advice_on_folder(name: str, identities: Mapping[str, StoreIdentity]) -> str:
    """Return advice for a model that may be in a folder; empty for a store without a model, or with several.

    Args:
        name: Name of the store.
        identities: Name of each store of the run → its settings.
    """
    origin = TunedOrigin.of(identities[name])
    if WEIGHTS not in identities[name].settings or (origin is not None and origin.fold is None):
        return ""
    folder = "FOLDER" if _with_models(identities) == [name] else f"{name}=FOLDER"
    return f"; if the model is in a folder, give it with --model {folder}"


@contextmanager
def naming_folder(
    where: object, name: str, identities: Mapping[str, StoreIdentity], given: str | None
) -> Iterator[None]:
    """Add to an error about the model of a store that its folder can be given.

    Args:
        where: Name or path of the store, for the message.
        name: Name of the store.
        identities: Name of each store of the run → its settings.
        given: Folder of the model, if the user gave one; then nothing is added.
    """
    try:
        yield
    except FeatcacheError as error:
        advice = "" if given else advice_on_folder(name, identities)
        raise type(error)(f"{where}: {str(error).removesuffix(UNTRAINED_INSTEAD)}{advice}") from error


def model_of_store(
    identity: StoreIdentity, given: str | None, workspace: Workspace, *, fold: int | None = None
) -> tuple[str, dict[str, Any]]:
    """Return the model that made the features of a store, and the options of its extractor.

    Args:
        identity: Settings of the store.
        given: Folder of its model or file of its extractor, if the user gave one; for a fine-tuned model also its run.
        workspace: Folder of corpora, caches and runs, in which the run of a fine-tuned model is found.
        fold: Fold of the fine-tuned run, for a store with models of several folds.

    Returns:
        The model as in ``create_extractor``, and its options.

    Raises:
        StoreError: the settings name no extractor, or the run of a fine-tuned model is missing or has changed.
        ModelError: the path of the model is not recorded, or the store was made by several models.
    """
    recorded, options = identity.model_and_options()
    origin = TunedOrigin.of(identity)
    if origin is not None:
        return _tuned_model(origin, given, workspace, origin.fold or fold), options
    if given is None and not is_reference(recorded) and _was_folder(recorded, identity):
        raise ModelError(f"its model was a folder named {recorded!r}, whose path is not recorded")
    return given or recorded, options


def workspace_of(store: FeatureStore) -> Workspace:
    """Return the workspace whose cache contains a store."""
    parents = resolved(store.path).parents
    return Workspace(home=parents[min(2, len(parents) - 1)])


def as_recorded(extractor: Extractor, identity: StoreIdentity) -> None:
    """Describe the extractor of a fine-tuned model, whose files were compared, as its store does."""
    origin = TunedOrigin.of(identity)
    if origin is None:
        return
    names = [MODEL_ID, TUNED, *([WEIGHTS] if origin.fold is None else [])]
    settings = {**extractor.description.settings, **{name: identity.settings.get(name) for name in names}}
    extractor.description = replace(extractor.description, settings=settings)


def _tuned_model(origin: TunedOrigin, given: str | None, workspace: Workspace, fold: int | None) -> str:
    """Return the folder of a fine-tuned model: the given one, or that of its run."""
    if fold is None:
        raise ModelError(
            f"its features were computed by {len(origin.models_sha256)} models of the run {origin.run}, one for each "
            f"fold, and one model is needed here: extract with --model {origin.run} --fold F into another store"
        )
    if given is not None and is_folder(given):
        return given
    run = find_run(workspace, given) if given is not None else RunFolder(_run_of(origin, workspace))
    folder, sha256 = checked_model(run.path, origin.store, seed=origin.seed, fold=fold)
    if origin.models_sha256.get(str(fold)) != sha256:
        raise StoreError(
            f"{run.path}: its model of fold {fold} is not the one that made the features; extract them again into a "
            "store of another --name, or restore the run"
        )
    return str(folder)


def _run_of(origin: TunedOrigin, workspace: Workspace) -> Path:
    """Return the folder of the recorded run; its name cannot lead to another place."""
    runs = workspace.runs(check_name("corpus", origin.corpus))
    folder = runs / check_name("run", origin.run)
    if not folder.is_dir():
        raise StoreError(
            f"its model was fine-tuned in the run {origin.run}, which is not in {runs}; copy the run there"
        )
    return folder


def _was_folder(recorded: str, identity: StoreIdentity) -> bool:
    """Return whether a recorded model was a folder that is not in the current folder."""
    is_name = "/" in recorded or WEIGHTS not in identity.settings or entry_of(recorded) is not None
    return is_path(recorded) or not (is_name or local_folder(recorded))


def _with_models(identities: Mapping[str, StoreIdentity]) -> list[str]:
    return [name for name, identity in identities.items() if WEIGHTS in identity.settings]
