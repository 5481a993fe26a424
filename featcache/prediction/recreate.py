"""Store settings of a run → extractors that compute the same features."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from featcache.cache.identity import WEIGHTS, StoreIdentity
from featcache.cache.reader import FeatureStore
from featcache.errors import FeatcacheError, StoreError
from featcache.extraction.store_models import MODEL_ID, as_recorded, model_of_store, naming_folder
from featcache.extractors import create_extractor
from featcache.extractors.base import Extractor
from featcache.features import Description
from featcache.files.values import check_types, damaged
from featcache.registry import name_plugins
from featcache.runs.file_names import CONFIG
from featcache.runs.identity import STORE_SETTINGS
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.workspace import Workspace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class NeededStore:
    """Features that heads take, as the run recorded them.

    Attributes:
        name: Name of the store.
        identity: Settings of the store, from which its extractor is created.
    """

    name: str
    identity: StoreIdentity

    @property
    def reads_text(self) -> bool:
        """Whether the features are computed from transcripts."""
        return self.identity.reads_text


def needed_stores(run: RunFolder, workspace: Workspace) -> list[NeededStore]:
    """Return the features that the heads of a run take, in the order of its configuration.

    For a run of an earlier release, which did not record the settings, they are read from the cache of its corpus.

    Raises:
        StoreError: the settings are damaged or not known, or features were imported.
    """
    recorded: dict[str, Any] = run.config.get(STORE_SETTINGS, {})
    path, needed = run.path / CONFIG, []
    for name, fingerprint in run.config["features"].items():
        if name in recorded:
            check_types(recorded, {name: (dict,)}, f"{path}, {STORE_SETTINGS},", REFIT)
            identity = StoreIdentity(settings=recorded[name])
            if identity.fingerprint != fingerprint:
                raise damaged(path, f"{STORE_SETTINGS} of {name} do not match its fingerprint", REFIT)
        else:
            identity = _from_cache(run, name, fingerprint, workspace)
        if identity.is_imported:
            raise StoreError(
                f"{run.path}: the features {name!r} were imported from other programs, so they cannot be computed for "
                "new audio; predict with a run on features of 'featcache extract'"
            )
        if identity.is_view:
            raise StoreError(
                f"{run.path}: the features {name!r} are of augmented speech, and new audio is not augmented; fit on "
                "the clean speech, with --train-views for training on augmented speech"
            )
        needed.append(NeededStore(name=name, identity=identity))
    return needed


def _from_cache(run: RunFolder, name: str, fingerprint: Any, workspace: Workspace) -> StoreIdentity:
    try:
        folder = workspace.cache(run.config["corpus"])
        known = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        found = FeatureStore(folder / name).identity if name in known else None
    except (FeatcacheError, OSError):
        found = None
    if found is None or found.fingerprint != fingerprint:
        raise StoreError(
            f"{run.path} is of an earlier release, which did not record how the features {name!r} were made, and the "
            f"cache does not have them; extract them again, or {REFIT}"
        )
    return found


@dataclass(frozen=True)
class Recreated:
    """Extractor that computes the features of a store for new audio.

    Attributes:
        store: The store.
        extractor: Its extractor.
    """

    store: NeededStore
    extractor: Extractor

    @property
    def description(self) -> Description:
        """Description of the extractor."""
        return self.extractor.description


def recreate(
    stores: Sequence[NeededStore], models: Mapping[str, str], device: str, workspace: Workspace
) -> list[Recreated]:
    """Create the extractors of stores.

    Args:
        stores: The stores.
        models: Name of a store → folder of its model or file of its extractor, if the user gave one.
        device: Torch device of the models.
        workspace: Folder of corpora, caches and runs, in which the runs of fine-tuned models are found.

    Raises:
        StoreError: an extractor on this machine has other settings or weights.
        ModelError: a model is not here, or the settings name external code that the user did not name.
    """
    identities = {store.name: store.identity for store in stores}
    found = []
    for store in stores:
        model = models.get(store.name)
        named = naming_folder(f"features {store.name!r}", store.name, identities, model)
        found.append(Recreated(store, _create(store, model, device, workspace, named)))
    return found


def _create(
    store: NeededStore, model: str | None, device: str, workspace: Workspace, named: AbstractContextManager[None]
) -> Extractor:
    if model is not None:
        name_plugins([model])
    try:
        with named:
            source, options = model_of_store(store.identity, model, workspace)
            extractor = create_extractor(source, device=device, **options)
            as_recorded(extractor, store.identity)
    except FeatcacheError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise StoreError(
            f"features {store.name!r}: their settings do not define a valid extractor ({error})"
        ) from error
    _check_same(store, extractor, renamed=model is not None)
    return extractor


def _check_same(store: NeededStore, extractor: Extractor, *, renamed: bool) -> None:
    """Check that an extractor computes the same features; a model folder with the same weights may have another name.

    Raises:
        StoreError: its settings or weights differ; the message names them.
    """
    expected = store.identity
    now = _identity(extractor.description, expected)
    has_weights = expected.settings.get(WEIGHTS) is not None
    if renamed and has_weights and now.differences(expected) == [MODEL_ID]:
        settings = {**extractor.description.settings, MODEL_ID: expected.settings[MODEL_ID]}
        extractor.description = replace(extractor.description, settings=settings)
        return
    if now.fingerprint != expected.fingerprint:
        differing = ", ".join(expected.differences(now))
        raise StoreError(
            f"features {store.name!r}: the extractor on this machine differs from that of the run in {differing}; "
            f"use the same model and versions, or give the folder of the model with --model {store.name}=FOLDER"
        )


def _identity(description: Description, expected: StoreIdentity) -> StoreIdentity:
    return StoreIdentity.of(description, expected.storage_dtype, pool=expected.pool)
