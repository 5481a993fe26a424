"""Utterances of one frame each → the field's baseline: a linear support vector machine, C chosen on validation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.evaluate.metrics import uar
from featcache.protocols import Fold
from featcache.training.train import Epoch
from featcache.training.windows import Window

COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


class SVMTraining:
    """One support vector machine on its way: all utterances are gathered first, then one is fitted for each C.

    It is carried out like a training of a single epoch, see :class:`~featcache.training.train.Training`. What stands
    for probabilities is the softmax of the distances from the planes: it orders classes, and is not calibrated.
    """

    def __init__(self, seed: int, fold: Fold, targets: Mapping[str, int], num_classes: int, layers: Sequence[slice]):
        self.seed = seed
        self.fold = fold
        self.history: list[Epoch] = []
        self.predictions: dict[str, list[float]] = {}
        self._targets = targets
        self._num_classes = num_classes
        self._layers = layers
        self._train: dict[str, npt.NDArray[np.float32]] = {}
        self._validation: dict[str, npt.NDArray[np.float32]] = {}
        self._best: Any = None

    @property
    def finished(self) -> bool:
        return bool(self.history)

    @property
    def diverged(self) -> bool:
        return False

    def learn(self, window: Window) -> None:
        self._train |= self._vectors(window, self.fold.train)

    def validate(self, window: Window) -> None:
        self._validation |= self._vectors(window, self.fold.validation)

    def end_epoch(self) -> None:
        from sklearn.svm import LinearSVC

        known, unseen = (np.stack(list(part.values())) for part in (self._train, self._validation))
        classes = np.array([self._targets[i] for i in self._train])
        expected = np.array([self._targets[i] for i in self._validation])
        best = -1.0
        for cost in COSTS:
            machine = LinearSVC(C=cost, random_state=self.seed, max_iter=10_000).fit(known, classes)
            score = uar(expected, machine.predict(unseen))
            if score > best:
                best, self._best = score, machine
        self._train.clear()
        self._validation.clear()
        nan = float("nan")
        self.history.append(Epoch(epoch=1, train_loss=nan, validation_loss=nan, validation_score=best))

    def predict(self, window: Window) -> None:
        for utterance_id, vector in self._vectors(window, (*self.fold.validation, *self.fold.test)).items():
            distances = np.atleast_1d(self._best.decision_function(vector[None])[0])
            if len(distances) == 1:  # of two classes scikit-learn tells the second one's alone
                distances = np.array([-distances[0], distances[0]]) / 2
            # a class that was never trained on is never predicted
            scores = np.full(self._num_classes, -np.inf)
            scores[self._best.classes_] = distances
            self.predictions[utterance_id] = torch.from_numpy(scores).softmax(dim=0).tolist()

    def state(self) -> dict[str, Tensor]:
        """The planes: ``coef`` (num_planes, size) and ``intercept`` (num_planes,), float64, and ``classes``."""
        parts = {"coef": self._best.coef_, "intercept": self._best.intercept_, "classes": self._best.classes_}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in parts.items()}

    def layer_weights(self) -> list[Tensor | None]:
        return [None]

    def _vectors(self, window: Window, utterance_ids: Sequence[str]) -> dict[str, npt.NDArray[np.float32]]:
        present = window.among(utterance_ids)
        (packed,) = window.batch(present, self._layers)
        return {i: item.unpack().flatten().numpy().copy() for i, item in zip(present, packed, strict=True)}
