"""Pooled utterances → linear models that solvers of scikit-learn fit; a cross-validation over speakers chooses C."""

import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from featcache.evaluate.metrics import uar
from featcache.extractors.upper import UpperBlocks
from featcache.protocols import Fold
from featcache.targets.losses import ccc
from featcache.targets.targets import Value
from featcache.training.batches import LoadedUtterances
from featcache.training.splits import Split, speaker_splits
from featcache.training.status import Stopwatch, TrainingStatus
from featcache.training.trainable import Epoch

SVM_COSTS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
# The logistic loss of a misclassified utterance is smaller than the squared hinge loss: larger values are useful.
LOGISTIC_COSTS = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0)
MAX_ITERATIONS = 10_000
# Largest value of the gradient of the mean loss at which the solver of ``logistic`` stops. The probabilities are then
# equal to those of the exact solution in about five digits.
GRADIENT = 1e-6

# The warnings are recorded as ``unconverged`` and reported once per run.
warnings.filterwarnings("ignore", "Liblinear failed to converge", UserWarning)
warnings.filterwarnings("ignore", "lbfgs failed to converge", UserWarning)

# liblinear has one random state for the whole process. If several threads used it at once, a solver that does not
# converge would give another result in each run. One solver at a time also limits the memory.
_SOLVING = threading.Lock()

Array = npt.NDArray[Any]


class SolverTraining(ABC):
    """Training of linear models: all utterances are collected first, then a solver fits models for each C.

    A cross-validation inside the training and validation parts together chooses C: the value with the best score of all
    out-of-fold predictions, the lowest such value if there are several. The final model is fitted to both parts with
    this C. Predictions of the validation part are the out-of-fold predictions, so that they come from models that did
    not train on these speakers.

    It has the interface of a training with a single epoch, see :class:`~featcache.training.train.Training`.

    Args:
        seed: Seed of the order in which scikit-learn visits utterances; it changes results in the last digits only.
        fold: Training and validation part, which choose C and train; test part, which is predicted.
        targets: Utterance id → class, or the values of a regression.
        num_outputs: Number of classes or dimensions.
        layers: Slice of the window's layers: a single layer of a single store.
        speakers: Utterance id → speaker, empty if unknown; see :func:`~featcache.training.splits.speaker_splits`.
        class_weights: Weight of each class, in the order of the classes; None if all utterances count the same.
        only_trained: Utterances of the training part that never count for the choice of C, such as augmented views.

    Attributes:
        next_epoch: 1, because there is one epoch.
        costs: The chosen C of each final model: one for a classification, one per dimension for a regression.
    """

    grid: ClassVar[Sequence[float]] = SVM_COSTS
    next_epoch = 1

    def __init__(
        self,
        seed: int,
        fold: Fold,
        targets: Mapping[str, Value],
        num_outputs: int,
        layers: Sequence[slice],
        *,
        speakers: Mapping[str, str],
        class_weights: Sequence[float] | None = None,
        only_trained: Collection[str] = (),
    ) -> None:
        self.seed = seed
        self.fold = fold
        self.history: list[Epoch] = []
        self.predictions: dict[str, list[float]] = {}
        self.watch = Stopwatch()
        self.costs: list[float] = []
        self._targets = targets
        self._num_outputs = num_outputs
        self._layers = layers
        self._speakers = speakers
        self._class_weights = None if class_weights is None else np.array(class_weights, np.float64)
        self._only_trained = frozenset(only_trained)
        self._models: list[Any] = []
        self._vectors: dict[str, Array] = {}
        self._new()  # scikit-learn must load its BLAS before the threads of all trainings are limited

    @property
    def finished(self) -> bool:
        """Whether the models are fitted."""
        return bool(self.history)

    @property
    def diverged(self) -> bool:
        """False: a solver cannot diverge."""
        return False

    @property
    def unconverged(self) -> bool:
        """Whether the solver of a final model stopped before it converged."""
        return any(np.max(model.n_iter_) >= MAX_ITERATIONS for model in self._models)

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
        self._vectors |= self._in_window(window, self.fold.train)

    def validate(self, window: LoadedUtterances) -> None:
        """Collect the utterances of the validation part from a window."""
        self._vectors |= self._in_window(window, self.fold.validation)

    def end_epoch(self) -> None:
        """Choose C and fit the final models to the collected utterances."""
        known = [*self.fold.train, *self.fold.validation]
        X = np.stack([self._vectors.pop(i) for i in known])
        y = np.array([self._targets[i] for i in known])
        splits = speaker_splits([self._speakers[i] for i in known], None if y.ndim > 1 else y)
        counted = np.array([i not in self._only_trained for i in known])
        score, outputs = self._fit(X, y, [(train, held_out[counted[held_out]]) for train, held_out in splits], counted)
        validation = set(self.fold.validation)
        self.predictions |= {i: row.tolist() for i, row in zip(known, outputs, strict=True) if i in validation}
        nan = float("nan")
        self.history.append(Epoch(epoch=1, train_loss=nan, validation_loss=nan, validation_score=score))

    def predict(self, window: LoadedUtterances) -> None:
        """Predict the utterances of the test part in a window; those of the validation part are predicted already."""
        for utterance_id, vector in self._in_window(window, self.fold.test).items():
            self.predictions[utterance_id] = self._predict(vector[None])[0].tolist()

    def models(self) -> Mapping[str, UpperBlocks]:
        return {}

    def layer_weights(self) -> list[Tensor | None]:
        """Return None for the only store: a solver learns no layer weights."""
        return [None]

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """Return the weights and intercepts by name, float64."""

    @abstractmethod
    def _new(self) -> Any:
        """Return an estimator of scikit-learn that is not fitted."""

    @abstractmethod
    def _fit(self, X: Array, y: Array, splits: Sequence[Split], counted: Array) -> tuple[float, Array]:
        """Choose C, and fit the final models.

        Args:
            X: (num_utterances, size) float64 features.
            y: (num_utterances,) int64 classes, or (num_utterances, num_dimensions) float64 values.
            splits: Splits of the cross-validation.
            counted: (num_utterances,) whether an utterance counts for the choice of C.

        Returns:
            The best score, and the (num_utterances, num_outputs) float64 out-of-fold predictions with the chosen C.
        """

    @abstractmethod
    def _outputs(self, model: Any, X: Array) -> Array:
        """Return the (num_utterances, …) float64 probabilities or values that a model predicts."""

    @abstractmethod
    def _score(self, y: Array, outputs: Array) -> float:
        """Return the score of predictions: UAR or CCC."""

    @abstractmethod
    def _predict(self, X: Array) -> Array:
        """Return the (num_utterances, num_outputs) float64 predictions of the final models."""

    def _choose(self, X: Array, y: Array, splits: Sequence[Split], counted: Array) -> tuple[float, Array]:
        """Choose C for one target, and append its final model; arguments and result as in :meth:`_fit`."""
        held_out_outputs: list[list[Array]] = [[] for _ in self.grid]
        for train, held_out in splits:
            model = self._new()
            for outputs, cost in zip(held_out_outputs, self.grid, strict=True):
                outputs.append(self._outputs(self._solved(model, cost, X[train], y[train]), X[held_out]))
        order = np.concatenate([held_out for _, held_out in splits])
        best, chosen = -np.inf, np.empty(0)
        for outputs, cost in zip(held_out_outputs, self.grid, strict=True):
            found = np.concatenate(outputs)
            score = self._score(y[order], found)
            if score > best or not len(chosen):
                best, chosen, best_cost = score, found, cost
        out_of_fold = np.full((len(X), *chosen.shape[1:]), np.nan)
        out_of_fold[order] = chosen
        self.costs.append(best_cost)
        self._models.append(self._solved(self._new(), best_cost, X, y))
        return best, out_of_fold

    def _solved(self, model: Any, cost: float, X: Array, y: Array) -> Any:
        """Return an estimator after fitting it; a constant one if all utterances have the same class."""
        # Not class_weight: LinearSVC would apply it to the class itself, but not where the class is among the others.
        weights = None if self._class_weights is None else self._class_weights[y]
        if y.dtype == np.int64 and len(np.unique(y)) == 1:
            return _Constant(y[:1])
        with _SOLVING:
            return model.set_params(C=cost).fit(X, y, sample_weight=weights)

    def _in_window(self, window: LoadedUtterances, utterance_ids: Sequence[str]) -> dict[str, Array]:
        present = window.among(utterance_ids)
        (packed,) = window.batch(present, self._layers)
        return {i: item.unpack().flatten().double().cpu().numpy() for i, item in zip(present, packed, strict=True)}


class _Constant:
    """Classifier of a split that trains on a single class."""

    def __init__(self, classes: Array) -> None:
        self.classes_ = classes

    def decision_function(self, X: Array) -> Array:
        """Return (num_utterances, 1) distances."""
        return np.zeros((len(X), 1))


class ClassifierTraining(SolverTraining):
    """Training of a linear classifier."""

    def state(self) -> dict[str, Tensor]:
        """Return ``coef`` (num_hyperplanes, size) and ``intercept`` (num_hyperplanes,), float64, and ``classes``."""
        [model] = self._models
        parts = {"coef": model.coef_, "intercept": model.intercept_, "classes": model.classes_}
        return {name: torch.from_numpy(np.ascontiguousarray(values)) for name, values in parts.items()}

    def _fit(self, X: Array, y: Array, splits: Sequence[Split], counted: Array) -> tuple[float, Array]:
        return self._choose(X, y, splits, counted)

    def _outputs(self, model: Any, X: Array) -> Array:
        distances = model.decision_function(X)
        if distances.ndim == 1:  # for two classes, scikit-learn returns the distance of the second one only
            distances = np.stack([-distances, distances], axis=1) / 2
        # A class that is not in the training part is never predicted.
        scores = np.full((len(X), self._num_outputs), -np.inf)
        scores[:, model.classes_] = distances
        probabilities: Array = torch.from_numpy(scores).softmax(dim=1).numpy()
        return probabilities

    def _score(self, y: Array, outputs: Array) -> float:
        return uar(y, outputs.argmax(axis=1))

    def _predict(self, X: Array) -> Array:
        return self._outputs(self._models[0], X)


class SVCTraining(ClassifierTraining):
    """Linear SVM classifier.

    Its probabilities are the softmax of the distances from the hyperplanes. They rank the classes, but are not
    calibrated.
    """

    def _new(self) -> Any:
        from sklearn.svm import LinearSVC

        return LinearSVC(dual="auto", random_state=self.seed, max_iter=MAX_ITERATIONS)


class LogisticTraining(ClassifierTraining):
    """Multinomial logistic regression with an L2 penalty; the solver runs until it converges.

    Its probabilities are those of scikit-learn's ``predict_proba``.
    """

    grid = LOGISTIC_COSTS

    def _new(self) -> Any:
        from sklearn.linear_model import LogisticRegression

        # The next C begins at the solution of the previous one, which saves iterations.
        return LogisticRegression(tol=GRADIENT, max_iter=MAX_ITERATIONS, warm_start=True)


class SVRTraining(SolverTraining):
    """Linear support vector regression for each dimension, each with its own C.

    The loss is the squared epsilon-insensitive loss, because its minimum is unique.
    """

    def state(self) -> dict[str, Tensor]:
        """Return ``coef`` (num_dimensions, size) and ``intercept`` (num_dimensions,), float64."""
        return {
            "coef": torch.from_numpy(np.stack([model.coef_ for model in self._models])),
            "intercept": torch.tensor([float(np.squeeze(model.intercept_)) for model in self._models]).double(),
        }

    def _new(self) -> Any:
        from sklearn.svm import LinearSVR

        return LinearSVR(
            loss="squared_epsilon_insensitive", dual="auto", random_state=self.seed, max_iter=MAX_ITERATIONS
        )

    def _fit(self, X: Array, y: Array, splits: Sequence[Split], counted: Array) -> tuple[float, Array]:
        found = [self._choose(X, y[:, dimension], splits, counted) for dimension in range(self._num_outputs)]
        return float(np.mean([score for score, _ in found])), np.stack([outputs for _, outputs in found], axis=1)

    def _outputs(self, model: Any, X: Array) -> Array:
        values: Array = model.predict(X)
        return values

    def _score(self, y: Array, outputs: Array) -> float:
        return float(ccc(torch.from_numpy(outputs)[:, None], torch.from_numpy(y)[:, None]))

    def _predict(self, X: Array) -> Array:
        return np.stack([self._outputs(model, X) for model in self._models], axis=1)
