"""Trained head × its statistics → a module that takes new, unnormalised features."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from featcache.errors import ModelError, unknown_name
from featcache.heads import MEAN_AND_MAX
from featcache.heads.packed import pack
from featcache.heads.tuned import TunedHead
from featcache.runs.head_inputs import HeadInput
from featcache.runs.identity import FROM_LAYER
from featcache.runs.saved_statistics import SavedStatistics, missing_statistics
from featcache.units import counted

NumFrames = Sequence[Sequence[int] | None]
Features = Sequence[Sequence[Tensor | npt.NDArray[Any]]]
Statistics = Sequence[tuple[Tensor | npt.NDArray[Any], Tensor | npt.NDArray[Any]]]


class SavedHead(nn.Module):
    """A trained head with the normalisation and the pooling of its fit, for new features.

    The statistics are buffers, so that they move to another device with the weights.

    Args:
        folder: The run folder, for messages.
        head: The trained network.
        config: The content of the run's ``config.yaml``.
        inputs: The features that the head takes, one item per store.
        outputs: Names of the outputs: the classes, the dimensions of a regression, or several labels.
        ranges: (num_outputs, 2) float32 label values of the outputs 0 and 1; None for classes and labels.
        statistics: The statistics of the run; None if it has none.
        thresholds: (num_outputs,) float32 lowest probability at which each label is predicted; None for other tasks.

    Attributes:
        inputs: The features that the head takes, one item per store: layers, hidden size, frames.
        outputs: Names of the outputs: the classes, the dimensions of a regression, or several labels.
        thresholds: (num_outputs,) float32 lowest probability at which each label is predicted; None for other tasks.
        norm: ``speaker``, ``global`` or ``none``.
        pooling: ``mean``, ``sum``, ``max`` or ``mean+max`` of all frames; None if the head takes the frames themselves.
        is_paired: Whether the frames of all stores are aligned, so that each store needs the same number of frames.
        groups: Names of the speakers whose statistics were saved, for ``speaker`` normalisation; otherwise empty.
    """

    def __init__(
        self,
        folder: Path,
        head: nn.Module,
        config: Mapping[str, Any],
        inputs: Sequence[HeadInput],
        *,
        outputs: Sequence[str],
        ranges: Tensor | None,
        statistics: SavedStatistics | None,
        thresholds: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.head = head
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.norm: str = config["norm"]
        is_tuned = FROM_LAYER in config  # the head then pools and cuts the outputs of its models itself
        self.pooling: str | None = None if is_tuned else config["pooling"]
        self.groups = statistics.groups if statistics and self.norm != "global" else ()
        self._folder = folder
        self._config = config
        self.is_paired = len(inputs) > 1 and not is_tuned and config["fused"] == "frames"
        self._position = {group: position for position, group in enumerate(self.groups)}
        self._normalised = statistics is not None
        for position, (mean, std) in enumerate(statistics.pairs if statistics else ()):
            self.register_buffer(f"mean_{position}", mean)
            self.register_buffer(f"std_{position}", std)
        self.ranges: Tensor | None
        self.register_buffer("ranges", ranges)
        self.thresholds: Tensor | None
        self.register_buffer("thresholds", thresholds)

    def forward(
        self,
        features: Features,
        *,
        groups: Sequence[str] | None = None,
        normalisation: Statistics | None = None,
        num_frames: NumFrames | None = None,
    ) -> Tensor:
        """Compute the outputs of some utterances.

        Args:
            features: For each store of ``inputs``, in that order, one array per utterance: (num_layers, num_frames,
                hidden_size) float32, not normalised. ``inputs`` describes the layers and frames. num_frames is at least
                1 and may differ between utterances. If a fusion joins stores frame by frame, it is equal in all stores.
                With ``pooling``, give all frames of the utterance; the head pools them.
            groups: Speaker of each utterance, one of ``self.groups``, for ``speaker`` normalisation.
            normalisation: Statistics of a new speaker, in place of saved ones: for each store the mean and the standard
                deviation, (num_layers, hidden_size) float32 each, of the same layers. They are used for all utterances.
                A value with standard deviation 0 or infinity becomes 0, as constant values do in a fit.
            num_frames: For fine-tuned models that read the padding, such as Whisper: for each store the number of
                frames of each utterance before its padding, or None for a store without kept padding. The features then
                include the padding: ``store.view(utterance_id, layers, with_padding=True)``.

        Returns:
            (num_utterances, num_outputs): logits, whose softmax gives the probabilities in ``predictions.csv`` (for
            several labels, their sigmoid), or the values of a regression in the unit of the labels. float32; float64
            for ``svm`` and ``logistic``.

        Raises:
            ModelError: features have other shapes, a speaker is unknown, statistics are missing or not finite, the
                number of frames before the padding is missing or wrong, or the head was converted to another dtype.
            StoreError: the run has no saved statistics, like runs of earlier releases and published folders with
                ``speaker`` normalisation.
        """
        self._check_weights()
        utterances = self._checked(features)
        pairs = self._statistics(len(utterances[0]), groups, normalisation)
        ready = [
            [self._prepared(values, None if pair is None else pair[i]) for i, values in enumerate(of_store)]
            for of_store, pair in zip(utterances, pairs, strict=True)
        ]
        outputs: Tensor = self.head(self._with_padding(ready, num_frames))
        if self.ranges is None:
            return outputs
        lowest, highest = self.ranges.unbind(dim=1)
        return lowest + (highest - lowest) * outputs

    def _with_padding(self, utterances: list[list[Tensor]], num_frames: NumFrames | None) -> list[list[Any]]:
        """Return the utterances with the numbers of frames before their padding, for models that read it.

        Raises:
            ModelError: a number is missing or wrong, or there is no such model.
        """
        expected = self.head.padded_frames if isinstance(self.head, TunedHead) else [None] * len(utterances)
        given = [None] * len(utterances) if num_frames is None else list(num_frames)
        if len(given) != len(utterances):
            raise ModelError(f"num_frames: expected a list or None for {counted(len(utterances), 'store')}")
        found: list[list[Any]] = []
        for one, most, of_store, numbers in zip(self.inputs, expected, utterances, given, strict=True):
            if most is None:
                if numbers is not None:
                    raise ModelError(f"num_frames: {one.store} has no padding; expected None")
                found.append([*of_store])
                continue
            if numbers is None or len(numbers) != len(of_store) or not all(0 < number <= most for number in numbers):
                raise ModelError(
                    f"the model of {one.store} reads the padding; give num_frames, the numbers of frames before it (1 "
                    f"to {most}), with features of store.view(utterance_id, layers, with_padding=True)"
                )
            found.append([pack(values, torch.float32, int(n)) for values, n in zip(of_store, numbers, strict=True)])
        return found

    def _check_weights(self) -> None:
        """Check that the head was not converted to another dtype, for example with ``.half()``.

        Raises:
            ModelError: the head has another dtype, or is on device ``meta``.
        """
        expected, name = (torch.float64, "double") if isinstance(self.head, LinearModel) else (torch.float32, "float")
        for values in chain(self.head.parameters(), self.head.buffers()):
            if values.is_meta:
                raise ModelError("this head was moved to device 'meta', which keeps no weights; load it again")
            if values.is_floating_point() and values.dtype != expected:
                raise ModelError(f"this head needs {expected}, found {values.dtype}; convert it with .{name}()")

    def _checked(self, features: Features) -> list[list[Tensor]]:
        """Return the features as float32 tensors.

        Raises:
            ModelError: the number of arrays, or a shape, does not match the head.
        """
        names = ", ".join(one.store for one in self.inputs)
        several = not isinstance(features, Mapping) and len(features) == len(self.inputs)
        if not several or len({len(of_store) for of_store in features}) != 1:
            raise ModelError(f"expected a list of utterances for each store ({names}), all of the same length")
        if not len(features[0]):
            raise ModelError("expected at least one utterance")
        found = [
            [_as_float32(values, f"utterance {number} of {one.store}") for number, values in enumerate(of_store)]
            for one, of_store in zip(self.inputs, features, strict=True)
        ]
        for one, of_store in zip(self.inputs, found, strict=True):
            for number, values in enumerate(of_store):
                shape = tuple(values.shape)
                if len(shape) != 3 or (shape[0], shape[2]) != (one.num_layers, one.hidden_size) or not shape[1]:
                    raise ModelError(
                        f"utterance {number} of {one.store}: expected ({one.num_layers} layers, frames, "
                        f"{one.hidden_size} values), found {shape}"
                    )
        if self.is_paired and not self.pooling:
            for number, frames in enumerate(zip(*([v.shape[1] for v in of_store] for of_store in found), strict=True)):
                if len(set(frames)) > 1:
                    raise ModelError(f"utterance {number}: {names} must have the same number of frames, found {frames}")
        return found

    def _statistics(
        self, number: int, groups: Sequence[str] | None, given: Statistics | None
    ) -> list[list[tuple[Tensor, Tensor]] | None]:
        """Return the mean and standard deviation of each utterance, per store; None without normalisation.

        Raises:
            ModelError: see :meth:`forward`.
            StoreError: see :meth:`forward`.
        """
        if self.norm == "none":
            if groups is not None or given is not None:
                raise ModelError("this head uses no normalisation; remove groups and normalisation")
            return [None] * len(self.inputs)
        if given is not None:
            return [[pair] * number for pair in self._given(given)]
        if not self._normalised:
            raise missing_statistics(self._folder, self._config)
        rows = [0] * number if self.norm == "global" else self._rows(number, groups)
        return [
            [(self.get_buffer(f"mean_{store}")[row], self.get_buffer(f"std_{store}")[row]) for row in rows]
            for store in range(len(self.inputs))
        ]

    def _rows(self, number: int, groups: Sequence[str] | None) -> list[int]:
        """Return the position of the group of each utterance in the saved statistics."""
        if groups is None or isinstance(groups, str) or len(groups) != number:
            raise ModelError(
                "this head normalises per speaker; give groups=[...], the speaker of each utterance, or the statistics "
                "of a new speaker with normalisation=[(mean, std)]"
            )
        for group in groups:
            if not isinstance(group, str):
                raise ModelError(f"groups: expected names such as {self.groups[0]!r}, found {group!r}")
            if group not in self._position:
                hint = "give normalisation=[(mean, std)]"
                raise ModelError(unknown_name("speaker", group, self.groups, hint=hint))
        return [self._position[group] for group in groups]

    def _given(self, given: Statistics) -> list[tuple[Tensor, Tensor]]:
        if len(given) != len(self.inputs) or not all(len(pair) == 2 for pair in given):
            raise ModelError(f"normalisation: expected (mean, std) for {counted(len(self.inputs), 'store')}")
        pairs = []
        for one, pair in zip(self.inputs, given, strict=True):
            mean, std = (_as_float32(values, f"normalisation of {one.store}").to(self._device) for values in pair)
            for values in (mean, std):
                if tuple(values.shape) != (one.num_layers, one.hidden_size):
                    raise ModelError(
                        f"normalisation of {one.store}: expected ({one.num_layers} layers, {one.hidden_size} values), "
                        f"found {tuple(values.shape)}"
                    )
            if not mean.isfinite().all() or not (std >= 0).all():  # NaN fails too
                raise ModelError(
                    f"normalisation of {one.store}: expected finite means, and standard deviations of 0 or more; found "
                    "other values (the std of a single frame may be NaN)"
                )
            pairs.append((mean, torch.where(std == 0, math.inf, std)))
        return pairs

    def _prepared(self, values: Tensor, pair: tuple[Tensor, Tensor] | None) -> Tensor:
        """Pool and normalise one utterance; pooling may come first: z-scores keep the order and commute with means."""
        num_frames = values.shape[1]
        if self.pooling:
            frames = values.cpu()  # not every device supports float64
            mean, highest = frames.mean(dim=1, dtype=torch.float64).float(), frames.amax(dim=1)
            kinds = {"max": [highest], MEAN_AND_MAX: [mean, highest]}
            values = torch.stack(kinds.get(self.pooling, [mean]), dim=1)
        values = values.to(self._device)
        if pair is not None:
            values = (values - pair[0][:, None]) / pair[1][:, None]
        if self.pooling == "sum":
            values = values * num_frames
        return values.reshape(len(values), 1, -1) if self.pooling else values

    @property
    def _device(self) -> torch.device:
        return next(chain(self.head.parameters(), self.head.buffers())).device


def _as_float32(values: Tensor | npt.NDArray[Any], what: str) -> Tensor:
    """Return the values as a float32 tensor; they are copied only if their memory layout does not suit torch.

    Raises:
        ModelError: the values are not numbers.
    """
    try:
        if isinstance(values, np.ndarray):
            values = np.require(values, np.float32, ["C", "W"])
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{what}: expected an array of numbers, found {type(values).__name__} ({error})") from error


class LinearModel(nn.Module):
    """Linear model that a solver fitted: support vector machines of head ``svm``, or head ``logistic``.

    Args:
        coef: (num_hyperplanes, size) float64 weights; one hyperplane for two classes.
        intercept: (num_hyperplanes,) float64 intercepts.
        classes: (num_trained,) int64 positions of the classes in the training part; None for a regression.
        num_outputs: Number of classes or dimensions.
    """

    def __init__(self, coef: Tensor, intercept: Tensor, classes: Tensor | None, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs
        self.coef: Tensor
        self.intercept: Tensor
        self.classes: Tensor | None
        for name, values in (("coef", coef), ("intercept", intercept), ("classes", classes)):
            self.register_buffer(name, values)

    def forward(self, features: Sequence[Sequence[Tensor]]) -> Tensor:
        """Compute (num_utterances, num_outputs) float64 scores of pooled utterances; -inf for untrained classes.

        Raises:
            ModelError: an utterance has several frames.
        """
        frames = max(values.shape[1] for values in features[0])
        if frames > 1:
            raise ModelError(f"this head takes one vector per utterance, found {frames} frames")
        vectors = torch.stack([values.flatten() for values in features[0]]).double()
        distances = vectors @ self.coef.T + self.intercept
        if self.classes is None:
            return distances
        if distances.shape[1] == 1:  # scikit-learn gives the distance of the second of two classes
            distances = torch.cat([-distances, distances], dim=1) / 2
        scores = distances.new_full((len(distances), self.num_outputs), -math.inf)
        scores[:, self.classes] = distances
        return scores
