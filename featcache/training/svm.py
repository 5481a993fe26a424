"""Pooled utterances → linear support vector machines, the standard baseline; C is chosen on the validation part."""

import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.evaluate.metrics import uar
from featcache.protocols import Fold
from featcache.targets.losses import ccc
from featcache.targets.targets import Value
from featcache.training.batches import LoadedUtterances
from featcache.training.status import Stopwatch, TrainingStatus
from featcache.training.trainable import Epoch

COSTS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
MAX_ITERATIONS = 10_000

# The warning is recorded as ``unconverged`` and reported once per run.
warnings.filterwarnings("ignore", "Liblinear failed to converge", UserWarning)

# liblinear has one random state for the whole process. If several threads used it at once, a solver that does not
# converge would give another result in each run.
_SOLVING = threading.Lock()

Array = npt.NDArray[Any]
Vectors = dict[str, npt.NDArray[np.float32]]


class SVMTraining(ABC):
    """Training of support vector machines: all utterances are collected first, then one SVM is fitted for each C.

    It has the interface of a training with a single epoch, see :class:`~featcache.training.train.Training`.

    Args:
        seed: Seed of the order in which scikit-learn visits utterances.
        fold: Training part; validation part, which chooses C; test part, which is predicted.
        targets: Utterance id → class, or the values of a regression.
        num_outputs: Number of classes or dimensions.
        layers: Slice of the window's layers: a single layer of a single store.
    """

    def __init__(
        self, seed: int, fold: Fold, targets: Mapping[str, Value], num_outputs: int, layers: Sequence[slice]
    ) -> None:
        self.seed = seed
        self.fold = fold
        self.history: list[Epoch] = []
        self.predictions: dict[str, list[float]] = {}
        self.watch = Stopwatch()
        self._targets = targets
        self._num_outputs = num_outputs
        self._layers = layers
        self._train: Vectors = {}
        self._validation: Vectors = {}

    @property
    def finished(self) -> bool:
        """Whether the SVMs are fitted."""
        return bool(self.history)

    @property
    def diverged(self) -> bool:
        """False: an SVM cannot diverge."""
        return False

    @property
    @abstractmethod
    def unconverged(self) -> bool:
        """Whether the solver stopped before it converged, for the chosen C."""

    @property
    def num_parameters(self) -> int:
        """Number of weights and intercepts."""
        return sum(values.numel() for name, values in self.state().items() if name != "classes")

    def status(self) -> TrainingStatus:
        """Return the current state: a single epoch without losses."""
        return TrainingStatus(
            epochs=float(self.finished),
            least=1,
            most=1,
            train_loss=None,
            validation_loss=None,
            seconds=self.watch.seconds,
            ended=self.finished,
        )

    def learn(self, window: LoadedUtterances) -> None:
        """Collect the utterances of the training part from a window."""
        self._train |= self._vectors(window, self.fold.train)

    def validate(self, window: LoadedUtterances) -> None:
        """Collect the utterances of the validation part from a window."""
        self._validation |= self._vectors(window, self.fold.validation)

    def end_epoch(self) -> None:
        """Fit the SVMs to the collected utterances."""
        X_train, X_validation = (np.stack(list(part.values())) for part in (self._train, self._validation))
        y_train, y_validation = (np.array([self._targets[i] for i in part]) for part in (self._train, self._validation))
        score = self._fit(X_train, y_train, X_validation, y_validation)
        self._train.clear()
        self._validation.clear()
        nan = float("nan")
        self.history.append(Epoch(epoch=1, train_loss=nan, validation_loss=nan, validation_score=score))

    def predict(self, window: LoadedUtterances) -> None:
        """Predict the utterances of the validation and test parts in a window."""
        vectors = self._vectors(window, (*self.fold.validation, *self.fold.test))
        self.predictions |= {utterance_id: self._predict(vector) for utterance_id, vector in vectors.items()}

    def layer_weights(self) -> list[Tensor | None]:
        """Return None for the only store: an SVM learns no layer weights."""
        return [None]

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the weights and intercepts by name, float64."""

    @abstractmethod
    def _fit(self, X_train: Array, y_train: Array, X_validation: Array, y_validation: Array) -> float:
        """Fit one SVM for each C, and keep the one with the best validation score.

        Args:
            X_train: (num_utterances, size) float32 features.
            y_train: (num_utterances,) classes, or (num_utterances, num_dimensions) values.
            X_validation: (num_utterances, size) float32 features.
            y_validation: Classes or values, in the shape of ``y_train``.

        Returns:
            The best score.
        """

    @abstractmethod
    def _predict(self, vector: npt.NDArray[np.float32]) -> list[float]:
        """Return the (num_outputs,) probabilities or values of a (size,) feature vector."""

    def _vectors(self, window: LoadedUtterances, utterance_ids: Sequence[str]) -> Vectors:
        present = window.among(utterance_ids)
        (packed,) = window.batch(present, self._layers)
        return {i: item.unpack().flatten().numpy().copy() for i, item in zip(present, packed, strict=True)}


class SVCTraining(SVMTraining):
    """Linear SVM classifier.

    Its probabilities are the softmax of the distances from the hyperplanes. They rank the classes, but are not
    calibrated.
    """

    @property
    def unconverged(self) -> bool:
        """Whether a solver stopped before it converged, for the chosen C."""
        return bool(self._best.n_iter_ >= MAX_ITERATIONS)

    def state(self) -> dict[str, Tensor]:
        """Return ``coef`` (num_hyperplanes, size) and ``intercept`` (num_hyperplanes,), float64, and ``classes``."""
        parts = {"coef": self._best.coef_, "intercept": self._best.intercept_, "classes": self._best.classes_}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in parts.items()}

    def _fit(self, X_train: Array, y_train: Array, X_validation: Array, y_validation: Array) -> float:
        from sklearn.svm import LinearSVC

        best = -1.0
        for cost in COSTS:
            machine = LinearSVC(C=cost, random_state=self.seed, max_iter=MAX_ITERATIONS)
            with _SOLVING:
                machine.fit(X_train, y_train)
            score = uar(y_validation, machine.predict(X_validation))
            if score > best:
                best, self._best = score, machine
        return best

    def _predict(self, vector: npt.NDArray[np.float32]) -> list[float]:
        distances = np.atleast_1d(self._best.decision_function(vector[None])[0])
        if len(distances) == 1:  # for two classes, scikit-learn returns the distance of the second one only
            distances = np.array([-distances[0], distances[0]]) / 2
        # A class that is not in the training part is never predicted.
        scores = np.full(self._num_outputs, -np.inf)
        scores[self._best.classes_] = distances
        probabilities: list[float] = torch.from_numpy(scores).softmax(dim=0).tolist()
        return probabilities


class SVRTraining(SVMTraining):
    """Linear support vector regression for each dimension, each with its own C.

    The loss is the squared epsilon-insensitive loss, because its minimum is unique.
    """

    @property
    def unconverged(self) -> bool:
        """Whether a solver stopped before it converged, for the chosen C."""
        return any(machine.n_iter_ >= MAX_ITERATIONS for machine in self._best)

    def state(self) -> dict[str, Tensor]:
        """Return ``coef`` (num_dimensions, size) and ``intercept`` (num_dimensions,), float64."""
        return {
            "coef": torch.from_numpy(np.stack([machine.coef_ for machine in self._best])),
            "intercept": torch.tensor([float(np.squeeze(machine.intercept_)) for machine in self._best]).double(),
        }

    def _fit(self, X_train: Array, y_train: Array, X_validation: Array, y_validation: Array) -> float:
        from sklearn.svm import LinearSVR

        self._best = []
        scores = []
        for dimension in range(self._num_outputs):
            best = -np.inf
            for cost in COSTS:
                machine = LinearSVR(
                    C=cost,
                    loss="squared_epsilon_insensitive",
                    dual="auto",
                    random_state=self.seed,
                    max_iter=MAX_ITERATIONS,
                )
                with _SOLVING:
                    machine.fit(X_train, y_train[:, dimension])
                predicted, truth = machine.predict(X_validation), y_validation[:, dimension]
                score = float(ccc(torch.from_numpy(predicted)[:, None], torch.from_numpy(truth)[:, None]))
                if score > best:
                    best, chosen = score, machine
            self._best.append(chosen)
            scores.append(best)
        return float(np.mean(scores))

    def _predict(self, vector: npt.NDArray[np.float32]) -> list[float]:
        return [float(machine.predict(vector[None])[0]) for machine in self._best]
