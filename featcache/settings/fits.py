"""The options of ``featcache fit``, ``featcache probe`` and ``featcache relevance``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from featcache.settings.augmentations import ViewSettings
from featcache.settings.auxiliary_targets import AuxiliarySettings
from featcache.settings.field import setting
from featcache.settings.loss_choice import LossSettings
from featcache.settings.searches import SearchSettings
from featcache.settings.several_corpora import CorporaSettings
from featcache.settings.train_fractions import FractionSettings
from featcache.settings.training_loop import LoopSettings
from featcache.settings.types import SEEDS, Assignments, Names, Range, References, Seeds, Selection

Task = Literal["classification", "regression", "multilabel"]
Norm = Literal["speaker", "global", "none"]
LayerWeighting = Literal["abs", "softmax"]
Pooling = Literal["mean", "sum", "max", "mean+max"]
DASK_WARNING = "A Dask scheduler runs code that any client sends: use only a network in which you trust every machine."


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Training of a head.

    Source: Pepino et al. 2021 as run; the paper prints another learning rate.
    """

    learning_rate: float = setting(1e-4, "Learning rate, above 0.", above=0)
    batch_size: int | None = setting(
        None,
        "Number of utterances per training step [default: the head's choice: 16 for lstm, 32 for other heads].",
        minimum=1,
    )
    max_epochs: int = setting(100, "Maximum number of epochs.", minimum=1)
    patience: int = setting(
        4,
        "Number of epochs without a lower validation loss (see --stop-on) after which training stops; the best weights "
        "are kept.",
        minimum=1,
    )
    clip_value: float = setting(
        1.0, "Maximum magnitude of each gradient value, above 0; larger values are clipped.", above=0
    )
    epsilon: float = setting(1e-7, "Epsilon of adam and adamw, above 0.", above=0)


TRAINING_STEPS = (*TrainingConfig.__dataclass_fields__, *LoopSettings.__dataclass_fields__)
"""Options of the training steps of networks. Heads that a solver fits have none."""


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Selected utterances, their folds, and the label to predict."""

    protocol: str | None = setting(
        None,
        "Protocol that makes the folds: a name (see 'featcache corpora NAME'), package.module:OBJECT or "
        "./file.py:OBJECT [default: the corpus's own protocol; if it has none, the split or fold column of the "
        "manifest; otherwise loso for up to 12 speakers and group-kfold for more].",
    )
    target: str | None = setting(
        None,
        "Label to predict: a column of the manifest, LABEL=CLASS for one class against all others, or several "
        "dimensional labels, such as arousal,valence, for a regression; with --task multilabel, several columns of 0 "
        "and 1, or a column of lists such as anger;joy [default: the label of the protocol or corpus].",
    )
    task: Task | None = setting(None, "Task type [default: inferred from the label].")
    label_range: Range | None = setting(
        None, "Lowest and highest possible value of a dimensional label, such as 1,7 [default: the corpus's scale]."
    )
    select: Selection = setting(
        help="Use only utterances with these labels, such as vocal_channel=speech. Can be repeated.", factory=dict
    )
    limit: int | None = setting(
        None,
        "Size of a random subset of the utterances; the same subset as 'featcache extract --limit' [default: all].",
        minimum=1,
    )


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """Head, normalisation and seeds."""

    head: str = setting(
        "dense",
        "Head to train: dense, lstm, fusion, attentive, linear, ffn, mlp, svm, logistic, an installed head, "
        "package.module:Class or ./file.py:Class.",
    )
    set: Assignments = setting(help="Option of the head, such as hidden_units=256. Can be repeated.", factory=dict)
    norm: Norm = setting(
        "speaker",
        "Normalisation of features: with the statistics of each speaker, test speakers included (speaker), with the "
        "statistics of the training part (global), or none.",
    )
    seeds: Seeds = setting(
        SEEDS,
        "Number of seeds, or a list such as 123,1234 (a single seed: 123,). Each seed and fold is one training "
        "[default: 5].",
    )


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """Features, layers and pooling."""

    features: Names = setting(
        (), "Names of feature stores [default: the store of the only model; for fusion, egemaps as well]."
    )
    layers: str = setting("all", "Layers to use: all, local (layer 0), last, or a list such as 0,4-8.")
    layer_weighting: LayerWeighting = setting(
        "abs", "Normalisation of the layer weights: abs (|a| / sum of |a|) or softmax."
    )
    pooling: Pooling | None = setting(
        None,
        "Pooling over all frames of an utterance before the head [default: mean for linear, mlp, svm and logistic, "
        "mean+max for ffn on single layers, no pooling for other heads].",
    )
    scalar_norm: bool = setting(
        False, "Normalise all dimensions of a layer with one mean and standard deviation, for example spectrograms."
    )
    norm_by: str = setting("speaker_id", "Label that groups utterances for --norm speaker, such as dialogue_half.")
    max_frames: int | None = setting(
        None,
        "Number of frames to use from the beginning of each utterance; 0 uses all frames [default: the corpus's "
        "number, or 400].",
        minimum=0,
    )


@dataclass(frozen=True, kw_only=True)
class PluginSettings:
    """External code that files may refer to."""

    plugin: References = setting(
        (),
        "External code that runs, stores and pipelines may refer to: package.module:Class, ./file.py:Class, a module "
        "or a file. Can be repeated.",
        identity=False,
    )


@dataclass(frozen=True, kw_only=True)
class CacheSettings(PluginSettings):
    """Corpus, and external code that files may refer to."""

    corpus: str | None = setting(None, "Name of the corpus; required if several are cached.", identity=False)


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(CacheSettings, TargetSettings):
    """The options of ``featcache probe``."""


@dataclass(frozen=True, kw_only=True)
class DeviceSettings:
    """Device for training."""

    device: str = setting("cpu", "Device for training: cpu, cuda, cuda:1, mps or auto.", identity=False)


@dataclass(frozen=True, kw_only=True)
class RelevanceSettings(
    CacheSettings,
    DeviceSettings,
    LoopSettings,
    TrainingConfig,
    LossSettings,
    TargetSettings,
    HeadSettings,
):
    """The options of ``featcache relevance``."""


@dataclass(frozen=True, kw_only=True)
class FitSettings(
    CacheSettings,
    DeviceSettings,
    CorporaSettings,
    SearchSettings,
    AuxiliarySettings,
    LoopSettings,
    TrainingConfig,
    LossSettings,
    FractionSettings,
    TargetSettings,
    ViewSettings,
    FeatureSettings,
    HeadSettings,
):
    """The options of ``featcache fit``; options that do not affect results come last."""

    final: bool = setting(
        False,
        "Train on all utterances, once per seed, to use the heads on new audio. There are no test scores. Early "
        "stopping uses the validation part of the protocol's first fold, which does not train.",
    )
    fold: int | None = setting(
        None,
        "Number of the only fold of the protocol that is trained and tested, counted from 1, such as that of a "
        "fine-tuned model [default: all folds].",
        minimum=1,
    )
    memory: str | None = setting(
        None,
        "Memory limit (such as 4GiB), dtype of the in-memory features (float32, float16, bfloat16 or int8), or both, "
        "separated by a comma [default: half of the memory, and the most exact dtype that fits].",
        identity=False,
    )
    jobs: int = setting(1, "Number of processes that share the folds and the CPU cores.", minimum=1, identity=False)
    scheduler: str | None = setting(
        None,
        "Address of a Dask scheduler, such as tcp://host:8786, whose workers share the folds and see the same paths. "
        + DASK_WARNING,
        identity=False,
    )
    name: str | None = setting(
        None, "Name of the run folder, for a single run [default: derived from the settings].", identity=False
    )
    resume: bool = setting(False, "Continue interrupted runs.", identity=False)
    overwrite: bool = setting(False, "Replace runs that exist already.", identity=False)
    config: Path | None = setting(
        None, "config.yaml of a run whose settings are used again; other options override them.", identity=False
    )

    @property
    def training(self) -> TrainingConfig:
        """Training options."""
        return TrainingConfig(**{name: getattr(self, name) for name in TrainingConfig.__dataclass_fields__})

    @property
    def is_search(self) -> bool:
        """Whether several settings are tried, see :class:`SearchSettings`."""
        return bool(self.sweep) or self.trials is not None
