"""What a user asks of a run, in plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from featcache.normalise import SPEAKER


@dataclass(frozen=True, kw_only=True)
class FitRequest:
    """What a run is asked to be; None, and no features, leave the choice to what there is.

    Attributes:
        head: ``dense``, ``lstm``, ``fusion``, ``linear``, ``ffn``, ``svm``, or a head from outside of featcache.
        norm: ``speaker``, ``global`` or ``none``.
        norm_by: What ``speaker`` takes for the speaker: ``speaker_id``, or a label such as ``dialogue_half``.
        features: Names of stores. By default the only model's store, with ``egemaps`` beside it for ``fusion``.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        layer_weighting: ``abs``, w = |a| / Σ|a|, or ``softmax``.
        protocol: A name in ``featcache.protocols.PROTOCOLS``.
        target: The label to predict; ``LABEL=CLASS`` tells one class from all others, and several labels, separated by
            commas, are a regression.
        task: ``classification`` or ``regression``, where the label does not tell.
        label_range: What numbers lie between, where the corpus does not know or is to be overruled.
        select: Only utterances whose labels have these values take part.
        limit: Only so many utterances take part, those that ``extract`` takes with the same limit.
        seeds: One training each per fold.
        max_frames: How many frames of each utterance are used, those of the first store with a frame shift; 0 is all.
            Pooled utterances always have all of theirs.
        training: Fields of :class:`~featcache.training.train.TrainingConfig` that differ from their defaults.
        set: The head's own options, by name; see the ``options`` of its :class:`~featcache.heads.spec.HeadSpec`.
        pooling: ``mean``, ``sum``, ``max`` or ``mean+max`` of an utterance's frames in place of them.
        scalar_norm: Whether one mean and deviation normalise all dimensions of a layer.
        working_dtype: In which dtype features are held, where that is asked for.
    """

    head: str = "dense"
    norm: str = "speaker"
    norm_by: str = SPEAKER
    features: tuple[str, ...] = ()
    layers: str = "all"
    layer_weighting: str = "abs"
    protocol: str | None = None
    target: str | None = None
    task: str | None = None
    label_range: tuple[float, float] | None = None
    select: Mapping[str, Sequence[str]] = field(default_factory=dict)
    limit: int | None = None
    seeds: tuple[int, ...]
    max_frames: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    set: Mapping[str, Any] = field(default_factory=dict)
    pooling: str | None = None
    scalar_norm: bool = False
    working_dtype: str | None = None
