"""Heads of one run × features of new audio → outputs and penultimate activations of each head."""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featcache.cache.reader import FeatureStore
from featcache.errors import ModelError
from featcache.files.values import damaged
from featcache.fitting.conditions import recorded_copy
from featcache.heads import Head, head_spec
from featcache.heads.packed import Packed, pack
from featcache.heads.tuned import TunedHead
from featcache.normalise import Normaliser
from featcache.prediction.members import HeadKey
from featcache.runs.file_names import CONFIG
from featcache.runs.heads import after_models, load_head
from featcache.runs.parse import REFIT
from featcache.runs.reader import RunFolder
from featcache.runs.saved_head import LinearModel, SavedHead
from featcache.runs.saved_statistics import missing_statistics
from featcache.runs.tuned_inputs import read_tuned_inputs
from featcache.targets.targets import CLASSIFICATION, MULTILABEL
from featcache.terminal.interrupts import Pool
from featcache.threads import threads_each
from featcache.training.memory import WorkingCopy
from featcache.training.store_features import StoreFeatures, features_of, frames_in_use

Array = npt.NDArray[np.float64]
Normalisers = Mapping[int | None, Sequence[Normaliser]]
"""Fold → normaliser of each store, for the layers that are used; the key is None if all folds share them."""
Outputs = tuple[dict[HeadKey, Array], dict[HeadKey, npt.NDArray[np.float32]]]
"""Seed and fold → outputs, and seed and fold → penultimate activations."""


class RunHeads:
    """All heads of one run, loaded once; fine-tuned models are loaded when they compute.

    Features are rounded and heads compute in the dtypes of the fit, so that predictions are those of the fit.

    Args:
        run: The run.
        keys: Seeds and folds of the heads.
        device: Torch device of networks; heads that a solver fitted compute on the CPU.

    Raises:
        StoreError: a head or the configuration is damaged.
    """

    def __init__(self, run: RunFolder, keys: Iterable[HeadKey], device: str) -> None:
        self.run = run
        self.config = run.config
        self._is_global = run.config["norm"] == "global"
        self._spec = head_spec(run.config["head"])
        self._device = device if self._spec.is_network else "cpu"
        self.heads: dict[HeadKey, SavedHead] = {
            (seed, fold): load_head(
                run.path, run.config, seed=seed, fold=fold, with_statistics=self._is_global, with_models=False
            ).to(self._device)
            for seed, fold in keys
        }
        self.is_tuned = bool(read_tuned_inputs(run.path, run.config))
        self._any = next(iter(self.heads.values()))
        self.outputs = self._any.outputs
        self._copy = recorded_copy(run.config) or WorkingCopy(dtype=torch.float32, compute=torch.float32, room=None)
        self._caught = threading.local()
        self._is_watched = False

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds, sorted."""
        return sorted({fold for _, fold in self.heads})

    def _turns(self) -> list[list[HeadKey]]:
        """Seeds and folds of the heads that are in memory together: all, or one after another with its models."""
        by_fold = sorted(self.heads, key=lambda key: (key[1], key[0]))
        return [[key] for key in by_fold] if self.is_tuned else [by_fold]

    @contextmanager
    def _in_memory(self, keys: Iterable[HeadKey]) -> Iterator[None]:
        """Keep the fine-tuned models of some heads in memory inside the ``with`` block.

        Raises:
            StoreError: the folder of a model is missing or damaged.
        """
        before = {key: self.heads[key].head for key in keys} if self.is_tuned else {}
        try:
            for (seed, fold), head in before.items():
                found = after_models(self.run.path, self.config, cast(Head, head), seed=seed, fold=fold)
                self.heads[seed, fold].head = found.to(self._device).eval()
            yield
        finally:
            for key, head in before.items():
                self.heads[key].head = head

    def features(self, stores: Mapping[str, FeatureStore]) -> list[StoreFeatures]:
        """Return the features that the heads take: the layers, frames and pooling of the fit.

        Args:
            stores: Fingerprint → store.

        Raises:
            StoreError: the configuration does not match the heads.
        """
        recorded: Mapping[str, Any] = self.config["features"]
        most = self.config["max_frames"]
        if not isinstance(most, int) or most < 0:
            raise damaged(self.run.path / CONFIG, "max_frames: expected a number of frames, or 0 for all", REFIT)
        layers = self.config["layers"]
        tuned = read_tuned_inputs(self.run.path, self.config)
        found = features_of(
            [stores[fingerprint] for fingerprint in recorded.values()],
            layers=[str(one.from_layer) for one in tuned] or ("all" if layers == "-" else layers),
            max_frames=most or None,
            pooling=self._any.pooling,
            paired=self._spec.pairs_frames and not tuned,
            with_padding=bool(tuned),
        )
        for one, taken in zip(found, self._any.inputs, strict=True):
            if (len(one.layers), one.store.hidden_size) != (taken.num_layers, taken.hidden_size):
                raise damaged(self.run.path / CONFIG, f"the heads take other layers of {taken.store}", REFIT)
        return found

    def saved_normalisers(self, utterance_ids: Sequence[str]) -> Normalisers:
        """Return the normalisers that need no new audio: without normalisation, or with statistics of training parts.

        Args:
            utterance_ids: The utterances to normalise.

        Raises:
            StoreError: the run has no saved statistics, like runs of earlier releases.
        """
        if not self._is_global:
            return {None: [Normaliser(group_of={}, mean_={}, std_={})] * len(self._any.inputs)}
        found: dict[int | None, Sequence[Normaliser]] = {}
        for (_, fold), head in self.heads.items():
            if fold not in found:
                found[fold] = self._of_head(head, utterance_ids)
        return found

    def _of_head(self, head: SavedHead, utterance_ids: Sequence[str]) -> list[Normaliser]:
        group_of = dict.fromkeys(utterance_ids, "")
        buffers = dict(head.named_buffers())
        if "mean_0" not in buffers:
            raise missing_statistics(self.run.path)
        pairs = [(buffers[f"mean_{i}"][0], buffers[f"std_{i}"][0]) for i in range(len(head.inputs))]
        return [
            Normaliser(group_of=group_of, mean_={"": mean.cpu().numpy()}, std_={"": std.cpu().numpy()})
            for mean, std in pairs
        ]

    def compute_all(
        self,
        features: Sequence[StoreFeatures],
        normalisers: Normalisers,
        folds: Mapping[str, Collection[int]],
        *,
        workers: int,
        activations: bool = False,
    ) -> dict[str, Outputs]:
        """Compute the outputs of the heads for some utterances; one fine-tuned model at a time is in memory.

        Args:
            features: The features that the heads take.
            normalisers: Normaliser of each store.
            folds: Utterance id → folds whose heads predict it.
            workers: Number of threads. A model computes one utterance at a time, with all threads.
            activations: Whether to return penultimate activations too.

        Returns:
            Utterance id → outputs, see :meth:`compute`.
        """
        found: dict[str, Outputs] = {utterance_id: ({}, {}) for utterance_id in folds}
        at_once, threads = (1, workers) if self.is_tuned else (workers, 1)
        for keys in self._turns():
            ids = [i for i in folds if any(fold in folds[i] for _, fold in keys)]

            def compute(utterance_id: str, keys: Collection[HeadKey] = keys) -> Outputs:
                with np.errstate(all="ignore"):
                    return self.compute(
                        features, normalisers, utterance_id, folds[utterance_id], keys=keys, activations=activations
                    )

            if ids:
                with self._in_memory(keys), threads_each(threads), Pool(at_once, "predict") as pool:
                    for utterance_id, (outputs, inner) in zip(ids, pool.map(compute, ids), strict=True):
                        found[utterance_id][0].update(outputs)
                        found[utterance_id][1].update(inner)
        return found

    @torch.inference_mode()
    def compute(
        self,
        features: Sequence[StoreFeatures],
        normalisers: Normalisers,
        utterance_id: str,
        folds: Iterable[int],
        *,
        keys: Collection[HeadKey] | None = None,
        activations: bool = False,
    ) -> Outputs:
        """Compute the outputs of the heads of some folds for one utterance.

        Args:
            features: The features that the heads take.
            normalisers: Normaliser of each store.
            utterance_id: The utterance.
            folds: Numbers of the folds.
            keys: Seeds and folds of the heads whose models are in memory; by default all.
            activations: Whether to return penultimate activations too.

        Returns:
            Seed and fold → (num_outputs,) float64 probabilities, or values in the unit of the labels; and seed and fold
            → (size,) float32 inputs of the last layer, see :meth:`_watched`.
        """
        outputs: dict[HeadKey, Array] = {}
        inner: dict[HeadKey, npt.NDArray[np.float32]] = {}
        num_frames = frames_in_use(features, utterance_id)
        wanted, shared = set(folds), None
        for fold in self.folds:
            if fold not in wanted:
                continue
            of_stores = normalisers[None if None in normalisers else fold]
            packed = shared or [
                pack(one.read(utterance_id, frames, normaliser), self._copy.dtype, one.real_frames(frames)).to(
                    self._device
                )
                for one, frames, normaliser in zip(features, num_frames, of_stores, strict=True)
            ]
            shared = packed if None in normalisers else None
            for (seed, of_fold), saved in self.heads.items():
                if of_fold == fold and (keys is None or (seed, fold) in keys):
                    outputs[seed, fold] = self._outputs(saved, packed)
                    if activations:
                        inner[seed, fold] = self._caught.activations
        return outputs, inner

    def _outputs(self, saved: SavedHead, packed: Sequence[Packed]) -> Array:
        reduced = self._copy.compute != torch.float32
        if isinstance(saved.head, LinearModel):
            vectors = [[one.copy()] for one in packed]
            self._caught.activations = vectors[0][0].flatten().numpy()
            logits = saved.head(vectors)
        else:
            unpacked = not self._spec.learns_layers and not isinstance(saved.head, TunedHead)
            batch: Any = [[one.copy() if unpacked else one] for one in packed]
            with torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=reduced):
                logits = saved.head(batch)
        if self.config["task"] == CLASSIFICATION:
            probabilities: Array = logits.softmax(dim=1)[0].cpu().double().numpy()
            return probabilities
        if self.config["task"] == MULTILABEL:
            of_labels: Array = logits.sigmoid()[0].cpu().double().numpy()
            return of_labels
        values = logits[0].cpu().double().numpy()
        bounds = np.array([self.config["label_ranges"][name] for name in self.outputs], dtype=np.float64)
        scaled: Array = bounds[:, 0] + (bounds[:, 1] - bounds[:, 0]) * values
        return scaled

    def thresholds(self, keys: Iterable[HeadKey]) -> list[Array]:
        """Return the thresholds of the labels, (num_outputs,) float64, of some heads; none for other tasks."""
        found = (self.heads[key].thresholds for key in keys)
        return [one.cpu().double().numpy() for one in found if one is not None]

    def watch_activations(self) -> dict[HeadKey, int]:
        """Keep the inputs of the last layer of each head from now on; return the number of values of each.

        The last layer of a network is the module ``output``, as in all built-in heads. Its input is: for ``dense``,
        ``lstm`` and ``fusion`` the mean over frames of the last hidden layer (for fusions of frames that are not
        aligned, the last hidden layer after that mean); for ``linear`` the projection of the mean; for ``ffn``, ``mlp``
        and ``attentive`` the last hidden layer. For ``svm`` and ``logistic`` it is the normalised feature vector.

        Raises:
            ModelError: the head has no module ``output``.
        """
        for saved in () if self._is_watched or not self._spec.is_network else self.heads.values():
            last = getattr(_inner(saved), "output", None)
            if not isinstance(last, nn.Module):
                raise ModelError(
                    f"head {self.config['head']!r} has no layer named 'output', whose inputs --embeddings writes; "
                    "predict without --embeddings"
                )
            last.register_forward_pre_hook(self._catch)
        self._is_watched = True
        return {key: _last_size(saved) for key, saved in self.heads.items()}

    def _catch(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._caught.activations = inputs[0].detach().float().cpu().numpy().reshape(-1)


def _inner(saved: SavedHead) -> nn.Module:
    return saved.head.inner if isinstance(saved.head, TunedHead) else saved.head


def _last_size(saved: SavedHead) -> int:
    if isinstance(saved.head, LinearModel):
        return int(saved.head.coef.shape[1])
    last: Any = _inner(saved).output
    return int(last.in_features)
