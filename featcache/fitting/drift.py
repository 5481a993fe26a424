"""Fine-tuned run × stored layers → how far the output of each block moved from that of the pretrained block."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from featcache.cache.reader import FeatureStore
from featcache.errors import StoreError, listed
from featcache.extraction.store_models import models_by_store, naming_folder
from featcache.extractors.upper import UpperBlocks, load_upper
from featcache.fitting.upper_models import upper_of_store
from featcache.runs.model_files import checked_model
from featcache.runs.reader import RunFolder
from featcache.runs.tuned_inputs import TunedInput, read_tuned_inputs
from featcache.runs.tuned_models import trainings_of
from featcache.terminal.progress import progress
from featcache.units import counted
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

COLUMNS = ("features", "seed", "fold", "layer", "cka", "cosine", "num_frames")
Layers = Callable[[str], Tensor]
"""Utterance id → (num_layers, num_frames, hidden_size) float32: layers k+1 … N."""


class LayerSimilarity:
    """Similarity of two versions of a layer, over the frames of several utterances.

    Memory does not depend on the number of frames. Products are centred on the first frames, because the values of a
    layer may be far from 0.

    Attributes:
        num_frames: Number of frames so far.
    """

    def __init__(self) -> None:
        self.num_frames = 0
        self._cosines = 0.0
        self._centres: tuple[Tensor, ...] = ()
        self._sums: list[Tensor] = []
        self._products: dict[tuple[int, int], Tensor] = {}

    def add(self, one: Tensor, other: Tensor) -> None:
        """Add the frames of an utterance: (num_frames, hidden_size) float32 each."""
        pair = (one, other)
        self.num_frames += len(one)
        self._cosines += float(torch.cosine_similarity(one.double(), other.double(), dim=1).sum())
        if not self._centres:
            self._centres = tuple(values.mean(dim=0) for values in pair)
            self._sums = [torch.zeros(values.shape[1], dtype=torch.float64) for values in pair]
        centred = [values - centre for values, centre in zip(pair, self._centres, strict=True)]
        for number, values in enumerate(centred):
            self._sums[number] += values.double().sum(dim=0)
        for first, second in ((0, 0), (1, 1), (0, 1)):
            product = (centred[first].T @ centred[second]).double()
            self._products[first, second] = self._products.get((first, second), 0) + product

    @property
    def cosine(self) -> float:
        """Mean over frames of the cosine between both versions; 1 if they are equal."""
        return self._cosines / self.num_frames if self.num_frames else float("nan")

    @property
    def cka(self) -> float:
        """Linear centred kernel alignment (CKA), from 0 to 1; 1 for versions that are equal up to rotation and scale.

        Source: Kornblith et al. 2019, eq. 3 and 4.
        """
        if not self.num_frames:
            return float("nan")
        norms = {pair: float(self._covariance(*pair).norm()) for pair in self._products}
        scale = norms[0, 0] * norms[1, 1]
        return norms[0, 1] ** 2 / scale if scale else float("nan")

    def _covariance(self, first: int, second: int) -> Tensor:
        return self._products[first, second] - torch.outer(self._sums[first], self._sums[second]) / self.num_frames


def layer_drift(run: RunFolder, workspace: Workspace, models: Sequence[str] = ()) -> pd.DataFrame:
    """Compare the layers of each fine-tuned model with those of the pretrained model, on its validation utterances.

    Args:
        run: Run of a fine-tuning.
        workspace: Folder of corpora, caches and runs.
        models: Folders of the pretrained models, as in ``--model``; they are needed only if a store does not contain
            the layers above the first one.

    Returns:
        One row per store, seed, fold and layer: features, seed, fold, layer, cka, cosine, num_frames.

    Raises:
        FeatcacheError: a store is missing, has changed or has no validation utterances; a model is missing or
            has changed.
    """
    inputs = read_tuned_inputs(run.path, run.config)
    stores = {one.store: _store(run, one.store, workspace) for one in inputs}
    identities = {name: store.identity for name, store in stores.items()}
    given = models_by_store(models, identities)
    rows = run.validation_predictions[["fold", "utterance_id"]].drop_duplicates()
    found = []
    for one in inputs:
        store = stores[one.store]
        with naming_folder(one.store, one.store, identities, given.get(one.store)):
            pretrained = _pretrained(store, one, given.get(one.store))
        trainings = sorted(trainings_of(run, one.store))
        ids = {fold: list(rows.loc[rows["fold"] == fold, "utterance_id"]) for _, fold in trainings}
        ids = _stored(ids, store, run)
        total = sum(len(ids[fold]) for _, fold in trainings)
        with progress(f"drift of {one.store}", total, rate=_per_second) as advance:
            for seed, fold in trainings:
                tuned = _Upper(store, _tuned(run.path, store, one, seed=seed, fold=fold))
                for layer, similarity in _compared(ids[fold], pretrained, tuned, one, store, advance):
                    values = (similarity.cka, similarity.cosine, similarity.num_frames)
                    found.append((one.store, seed, fold, layer, *values))
    return pd.DataFrame(found, columns=list(COLUMNS))


def drift_summary(drift: pd.DataFrame, measure: str) -> dict[str, pd.DataFrame]:
    """Return name of a store → columns layer, mean, std (ddof = 1 over trainings) of a measure.

    Args:
        drift: Rows of :func:`layer_drift`.
        measure: ``cka`` or ``cosine``.
    """
    found = {}
    for name, rows in drift.groupby("features", sort=False):
        over = rows.groupby("layer")[measure]
        found[str(name)] = pd.DataFrame({"mean": over.mean(), "std": over.std(ddof=1)}).reset_index()
    return found


@dataclass(frozen=True)
class _Upper:
    """Layers k+1 … N of an utterance, computed by upper blocks from its stored layer k."""

    store: FeatureStore
    blocks: UpperBlocks

    def __call__(self, utterance_id: str) -> Tensor:
        padded = self.blocks.fixed_frames is not None
        stored = _read(self.store, utterance_id, [str(self.blocks.from_layer)], with_padding=padded)
        with torch.inference_mode():
            [layers] = self.blocks.forward([stored[0]])
        return layers[:, : int(self.store.num_frames([utterance_id])[0])]


def _compared(
    ids: Sequence[str],
    pretrained: Layers,
    tuned: Layers,
    one: TunedInput,
    store: FeatureStore,
    advance: Callable[[float], None],
) -> list[tuple[int, LayerSimilarity]]:
    """Return number of a layer → similarity of its pretrained and its fine-tuned version."""
    found = [(layer, LayerSimilarity()) for layer in range(one.from_layer + 1, store.num_blocks + 1)]
    for utterance_id in ids:
        pairs = zip(pretrained(utterance_id), tuned(utterance_id), strict=True)
        for (_, similarity), pair in zip(found, pairs, strict=True):
            similarity.add(*pair)
        advance(1)
    return found


def _store(run: RunFolder, name: str, workspace: Workspace) -> FeatureStore:
    store = FeatureStore(workspace.cache(run.config["corpus"]) / name)
    if store.identity.fingerprint != run.config["features"][name]:
        raise StoreError(f"{store.path} is not the store on which {run.path} was trained; extract it again")
    return store


def _stored(ids: Mapping[int, list[str]], store: FeatureStore, run: RunFolder) -> dict[int, list[str]]:
    """Return the validation utterances of each fold that are in the store; log how many are not."""
    found = {fold: [i for i in of_fold if i in store] for fold, of_fold in ids.items()}
    wanted = dict.fromkeys(i for of_fold in ids.values() for i in of_fold)
    missing = [i for i in wanted if i not in store]
    told = f"{store.path}: {len(missing)} of {counted(len(wanted), 'validation utterance')} of {run.name}"
    if missing and len(missing) == len(wanted):
        raise StoreError(f"{told} are not in the store; extract them again with the same settings")
    if missing:
        log.warning("%s are not in the store and are left out (%s)", told, listed(missing))
    return found


def _names(one: TunedInput, store: FeatureStore) -> list[str]:
    return [str(layer) for layer in range(one.from_layer + 1, store.num_blocks + 1)]


def _pretrained(store: FeatureStore, one: TunedInput, model: str | None) -> Layers:
    """Return the pretrained layers: the stored ones if all are stored, otherwise those of the pretrained blocks."""
    names = _names(one, store)
    if set(names) <= set(store.layer_names):
        return lambda utterance_id: _read(store, utterance_id, names)
    return _Upper(store, upper_of_store(store, model, from_layer=one.from_layer, layers=",".join(names)))


def _tuned(run: Path, store: FeatureStore, one: TunedInput, *, seed: int, fold: int) -> UpperBlocks:
    folder, _ = checked_model(run, one.store, seed=seed, fold=fold)
    return load_upper(
        str(folder),
        text=store.is_of_words,
        from_layer=one.from_layer,
        layers=",".join(_names(one, store)),
        with_padding=store.padded_frames is not None,
    )


def _read(store: FeatureStore, utterance_id: str, names: Sequence[str], *, with_padding: bool = False) -> Tensor:
    """Return stored layers: (num_layers, num_frames, hidden_size) float32."""
    positions = [store.layer_names.index(name) for name in names]
    values: npt.NDArray[np.float32] = store.view(utterance_id, positions, with_padding=with_padding).astype(np.float32)
    return torch.from_numpy(values)


def _per_second(done: float, seconds: float) -> str:
    return f"{done / seconds:.1f} utterances/s"
