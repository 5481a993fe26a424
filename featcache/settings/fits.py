"""The options of ``featcache fit``: what is trained, on what, and how; and those that probes and relevance share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featcache.settings.field import setting
from featcache.settings.types import SEEDS, Assignments, Names, Range, References, Seeds, Selection

Task = Literal["classification", "regression"]
Norm = Literal["speaker", "global", "none"]
LayerWeighting = Literal["abs", "softmax"]
Pooling = Literal["mean", "sum", "max", "mean+max"]
DASK_WARNING = "A Dask scheduler runs code that any client sends: use a network in which you trust every machine."


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a head is trained.

    Source: Pepino et al. 2021 as run, which is not the learning rate that the paper prints.
    """

    learning_rate: float = setting(1e-4, "Adam learning rate, above 0.", above=0)
    batch_size: int | None = setting(
        None, "Utterances per training step; by default as the head declares: 32, and 16 for lstm.", minimum=1
    )
    max_epochs: int = setting(100, "Largest number of epochs.", minimum=1)
    patience: int = setting(
        4,
        "Number of epochs without a better validation loss after which training ends; the best weights are kept.",
        minimum=1,
    )
    clip_value: float = setting(1.0, "Gradients are clipped to this magnitude, above 0, value by value.", above=0)
    epsilon: float = setting(1e-7, "Adam epsilon, above 0.", above=0)


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Which utterances take part, how they are divided into folds, and what is predicted."""

    protocol: str | None = setting(
        None,
        "Protocol that makes the folds: a name (see 'featcache corpora'), package.module:OBJECT or ./file.py:OBJECT; "
        "by default the one of the corpus, its split or folds, or leave-one-speaker-out.",
    )
    target: str | None = setting(
        None,
        "Label to predict; by default that of the protocol or corpus. LABEL=CLASS is one class against all others; "
        "arousal,valence is a regression of both together.",
    )
    task: Task | None = setting(None, "Task type, if it cannot be inferred from the label.")
    label_range: Range | None = setting(
        None, "Lowest and highest possible value of a dimensional label, as in 1,7; by default as the corpus defines."
    )
    select: Selection = setting(
        help="Only utterances with these labels take part, as in vocal_channel=speech.", factory=dict
    )
    limit: int | None = setting(
        None, "Random subset of N utterances, the same as that of 'featcache extract --limit'.", minimum=1
    )


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Which head is trained, and on which statistics and seeds."""

    head: str = setting(
        "dense",
        "Head to train: dense, lstm, fusion, linear, ffn or svm, the name of an installed head, "
        "package.module:Class or ./file.py:Class.",
    )
    set: Assignments = setting(help="Option of the head, as in hidden_units=256.", factory=dict)
    norm: Norm = setting(
        "speaker",
        "Normalisation statistics: speaker (of each speaker, test speakers included), global (of the training "
        "utterances) or none.",
    )
    seeds: Seeds = setting(
        SEEDS,
        "Number of seeds, or a list such as 123,1234 (one seed: 123,); one training per seed and fold; by default 5.",
    )


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Which features a head takes, and how."""

    features: Names = setting(
        (), "Names of feature stores; by default the only model's, and egemaps beside it for fusion."
    )
    layers: str = setting("all", "Layers to use: all, local, last, or a list such as 0,4-8.")
    layer_weighting: LayerWeighting = setting(
        "abs", "Normalisation of the layer weights: abs (|a| / sum of |a|) or softmax."
    )
    pooling: Pooling | None = setting(
        None,
        "Pooling over all frames of an utterance before the head; by default mean for linear and svm, mean+max for "
        "ffn on single layers, and none for other heads.",
    )
    scalar_norm: bool = setting(
        False, "Normalise with one mean and standard deviation for all dimensions of a layer, as for spectrograms."
    )
    norm_by: str = setting("speaker_id", "Label that stands for the speaker in --norm speaker, as dialogue_half.")
    max_frames: int | None = setting(
        None,
        "Number of frames used of each utterance, from its beginning; 0 for all; by default as the corpus defines, "
        "or 400.",
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """Which code files may name."""

    plugin: References = setting(
        (),
        "Code from outside that files may name: package.module:Class, ./file.py:Class, or a whole module or file.",
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class CacheSettings(PluginSettings):
    """Where the features are, and which code files may name."""

    corpus: str | None = setting(None, "Name of the corpus, if there are several.", identity=False)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(CacheSettings, TargetSettings):
    """The options of ``featcache probe``."""


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Where a head is trained."""

    device: str = setting("cpu", "Device of torch: cpu, cuda, cuda:1, mps, or auto.", identity=False)


@dataclass(frozen=True, kw_only=True)
class RelevanceSettings(CacheSettings, DeviceSettings, TrainingConfig, TargetSettings, HeadSettings):
    """The options of ``featcache relevance``."""


@dataclass(frozen=True, kw_only=True)
class FitSettings(CacheSettings, DeviceSettings, TrainingConfig, TargetSettings, FeatureSettings, HeadSettings):
    """The options of ``featcache fit``; those without influence on the results come last."""

    memory: str | None = setting(
        None,
        "Memory that the process may take (4GiB), dtype of the features in memory (float32, float16, bfloat16, int8), "
        "or both, separated by a comma; by default half of the memory and the most exact dtype that fits.",
        identity=False,
    )
    jobs: int = setting(1, "Number of processes that share the folds and the cores.", minimum=1, identity=False)
    scheduler: str | None = setting(
        None,
        "Address of a Dask scheduler, as tcp://host:8786, whose workers share the folds. They need the same paths. "
        + DASK_WARNING,
        identity=False,
    )
    name: str | None = setting(None, "Name of the run folder, for a single run.", identity=False)
    resume: bool = setting(False, "Continue interrupted runs.", identity=False)
    overwrite: bool = setting(False, "Train again although the run exists.", identity=False)
    config: Path | None = setting(
        None, "config.yaml of a run whose settings are repeated; other options override them.", identity=False
    )

    @property
    def training(self) -> TrainingConfig:
        """The options of the training alone."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.__dataclass_fields__})
