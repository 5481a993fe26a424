"""Every option and argument of the commands, each defined once: its type, its bounds and its help text.

A command annotates a parameter with one of these aliases and gives it a default. The order is that of the data flow.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

_TRUST = "Dask runs code that any client sends: use a network where you trust every machine and user."


class WeightsOption(StrEnum):
    """Which weights a model gets."""

    pretrained = "pretrained"
    random = "random"


class StorageOption(StrEnum):
    """Dtypes in which frames are stored."""

    float16 = "float16"
    float32 = "float32"
    int8 = "int8"


class PrecisionOption(StrEnum):
    """Dtypes in which models compute."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class ChannelOption(StrEnum):
    """How several channels become one."""

    mean = "mean"
    first = "first"


class TaskOption(StrEnum):
    """Kinds of targets."""

    classification = "classification"
    regression = "regression"


class LayerWeightingOption(StrEnum):
    """How layer weights are made to sum to 1."""

    abs = "abs"
    softmax = "softmax"


# Several groups of commands

Corpus = Annotated[str | None, Option(help="Name of the corpus, where there are several.")]
CorpusData = Annotated[Path | None, Option(help="The corpus's folder, if not under data/corpora.")]
Limit = Annotated[int | None, Option(min=1, help="Take only so many utterances, from all over.")]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1, mps, … or auto.")]
DryRun = Annotated[bool, Option("--dry-run", help="Tell what would be done; write nothing.")]
Task = Annotated[TaskOption | None, Option(help="Where the label does not tell.")]
Select = Annotated[list[str] | None, Option(help="Only utterances with these labels: vocal_channel=speech.")]
Protocol = Annotated[str | None, Option(help="Name of a protocol, see 'featcache corpora'.")]
Seeds = Annotated[int, Option(min=1, help="How many.")]

# demo, corpora

DemoFolder = Annotated[Path, Option(help="Where to leave everything.")]
CorpusName = Annotated[str | None, Argument(help="Show one corpus in full.")]

# extract, transcribe

Model = Annotated[
    str | None,
    Option(
        help="Short name (see 'featcache models'), Hugging Face id, folder, egemaps, egemaps-functionals or "
        "spectrogram; wav2vec2-base by default."
    ),
]
TextModel = Annotated[
    str | None,
    Option(
        help="In place of --model: an encoder of text, such as tinybert, that reads the transcripts. Every token "
        "is a frame, special ones included. No audio is read, and no eGeMAPS are computed."
    ),
]
Transcripts = Annotated[
    str | None, Option(help="For --text: those of a machine ('featcache transcribe'), by their name.")
]
SourceCorpus = Annotated[str | None, Option(help="Name under data/corpora, where there are several.")]
SourceData = Annotated[Path | None, Option(help="The corpus's folder, or a manifest.csv, elsewhere.")]
Egemaps = Annotated[bool, Option(help="Fill the store 'egemaps' as well.")]
StoreName = Annotated[str | None, Option(help="Name of the store, if not the model's.")]
Storage = Annotated[StorageOption | None, Option(help="How models' features are stored; float16 by default.")]
Pool = Annotated[bool, Option("--pool", help="Keep each utterance's mean, deviation and maximum alone, no frames.")]
ExtractionDevice = Annotated[
    str,
    Option(
        help="cpu, cuda, cuda:1, mps, …; several share the work: cuda:0,cuda:1; auto: CUDA, else mps, else the CPU."
    ),
]
ExtractionWorkers = Annotated[
    int | None, Option(min=1, help="Threads; one per core by default, for several devices more.")
]
BatchSeconds = Annotated[float | None, Option(min=0, help="Seconds of audio per forward pass. Changes no number.")]
Strict = Annotated[bool, Option("--strict", help="Stop at the first utterance that fails.")]
ShardIndex = Annotated[int, Option(min=0, help="Which part to do, from 0 on, as in a Slurm array.")]
NumShards = Annotated[int, Option(min=1, help="How many parts there are.")]
ExtractionScheduler = Annotated[
    str | None,
    Option(
        help="Address of a Dask scheduler, tcp://host:8786, whose workers do the work. They have featcache too, "
        f"and see corpus, cache and model folders under the same paths. {_TRUST}"
    ),
]
Weights = Annotated[WeightsOption | None, Option(help="random: untrained, offline, a control.")]
Revision = Annotated[str | None, Option(help="Branch, tag or commit on the Hugging Face hub.")]
NumBlocks = Annotated[int | None, Option(help="Only so many transformer blocks, the first: 12 of a large model's 24.")]
ExtractedLayers = Annotated[str | None, Option(help="all, local, last, or a list such as 0,4-8,input.")]
DoNormalize = Annotated[bool | None, Option(help="Normalise waveforms; by default as the checkpoint says.")]
MaxSeconds = Annotated[float | None, Option(min=0, help="Use only so much of each utterance, from its beginning.")]
ChunkSeconds = Annotated[
    float | None,
    Option(min=0, help="Compute longer utterances in windows of so much, in bounded memory. Changes numbers."),
]
OverlapSeconds = Annotated[float | None, Option(min=0, help="Of these windows; 2 by default.")]
Precision = Annotated[
    PrecisionOption | None, Option(help="What models compute in; float32 by default, bfloat16 is faster.")
]
SamplingRate = Annotated[int | None, Option(min=0, help="In Hz, for descriptors; 0 for the files' own.")]
Channel = Annotated[ChannelOption | None, Option(help="How descriptors mix several channels.")]
Window = Annotated[str | None, Option(help="Of the spectrogram: 25ms, or 400samples.")]
Hop = Annotated[str | None, Option(help="Of the spectrogram: 10ms, or 320samples.")]
FFTLength = Annotated[int | None, Option(min=2, help="Of the spectrogram, in samples.")]
Center = Annotated[bool | None, Option(help="Whether spectrogram frames are centred.")]

Whisper = Annotated[str, Option(help="Short name of a Whisper (see 'featcache models'), Hugging Face id or folder.")]
TranscriptsName = Annotated[str | None, Option(help="Name of the transcripts, if not the model's.")]
Language = Annotated[str | None, Option(help="Code or English name, as de or german; by default Whisper finds out.")]
TranscriptionDevice = Annotated[str, Option(help="cpu, cuda, cuda:1, mps, …; auto: CUDA, else mps, else the CPU.")]
TranscriptionWorkers = Annotated[int | None, Option(min=1, help="Threads; one per core by default. Changes no word.")]
OverwriteTranscripts = Annotated[
    bool, Option("--overwrite", help="Do everything anew, also what was made with other settings.")
]
WhisperWeights = Annotated[WeightsOption | None, Option(help="Untrained models know no words: random is refused.")]

# import-features

FeatureFolder = Annotated[Path, Argument(help="A folder with a .npy, .npz or HDF5 file for each utterance.")]
ImportedName = Annotated[str, Option(help="Name of the store.")]
FrameShift = Annotated[
    float | None, Option(help="Seconds from frame to frame; leave it out for one vector per utterance.")
]
LayerNames = Annotated[str | None, Option(help="A name for each layer, separated by commas; 0,1,… by default.")]
ArrayName = Annotated[str | None, Option("--array", help="Name of the array, in files that hold several.")]
Layout = Annotated[
    str | None, Option(help="Known corpus, or your own (package.module:CORPUS), if files do not tell which it is.")
]

# info, verify, merge

Shown = Annotated[
    Path | None, Argument(help="Path or name of a store, cache, run or transcripts [default: the only cache].")
]
Store = Annotated[Path, Argument(help="The store.")]
Recompute = Annotated[int, Option(min=0, help="Utterances to compute anew, alone.")]
MovedModel = Annotated[str | None, Option(help="Where the model is, if it was a folder.")]
MergedStore = Annotated[Path, Argument(help="The store to be filled; made when missing.")]
Parts = Annotated[list[Path], Argument(help="Stores of the same settings; they are only read.")]

# fit

Heads = Annotated[str, Option(help="dense, lstm, fusion, linear, ffn, svm; several, separated by commas.")]
Norms = Annotated[str, Option(help="Whose statistics normalise: speaker (transductive), global, none; or several.")]
Features = Annotated[str | None, Option(help="Names of stores, separated by commas.")]
FittedLayers = Annotated[str, Option(help="all, local, last, or several of them; or a list such as 0,4-8.")]
Pooling = Annotated[
    str | None,
    Option(
        help="mean, sum, max or mean+max of an utterance's frames; mean by default for linear and svm, mean+max "
        "for ffn on single layers."
    ),
]
ScalarNorm = Annotated[
    bool, Option("--scalar-norm", help="One mean and deviation for all dimensions, as for spectrograms.")
]
NormBy = Annotated[str, Option(help="What --norm speaker takes for the speaker: a label such as dialogue_half.")]
LayerWeighting = Annotated[LayerWeightingOption, Option(help="How layer weights are made to sum to 1.")]
Target = Annotated[
    str | None,
    Option(help="The label to predict; LABEL=CLASS against all others; arousal,valence: numbers, together."),
]
LabelRange = Annotated[str | None, Option(help="What numbers lie between, as in 1,7; by default as the corpus says.")]
MaxFrames = Annotated[
    int | None, Option(min=0, help="Frames used of each utterance; 0 for all, by default the corpus's.")
]
LearningRate = Annotated[float | None, Option(min=0, help="Of Adam; 1e-4 by default.")]
BatchSize = Annotated[int | None, Option(min=1, help="Utterances; 32, for lstm 16.")]
MaxEpochs = Annotated[int | None, Option(min=1, help="100 by default.")]
Patience = Annotated[int | None, Option(min=1, help="Epochs without improvement; 4 by default.")]
Memory = Annotated[
    str | None,
    Option(help="What may be taken (4GiB), how features are held (float32, float16, bfloat16, int8), or both."),
]
Jobs = Annotated[int, Option(min=1, help="Processes that share the folds and the cores.")]
FitScheduler = Annotated[
    str | None, Option(help=f"tcp://host:8786 of a Dask cluster, whose workers share the folds. {_TRUST}")
]
RunName = Annotated[str | None, Option(help="Name of the run folder, for a single run.")]
Resume = Annotated[bool, Option("--resume", help="Go on with what was interrupted.")]
Retrain = Annotated[bool, Option("--overwrite", help="Train again although the run is there.")]

# run

Pipeline = Annotated[str | None, Argument(help="A YAML file, or the name of one that is listed without it.")]
Only = Annotated[str | None, Option(help="Names of runs, separated by commas.")]
TrialWeights = Annotated[WeightsOption | None, Option(help="random: untrained models, offline, a control.")]
TrialProtocol = Annotated[str | None, Option(help="In place of the pipeline's, for part of a corpus.")]
TrialSeeds = Annotated[int | None, Option(min=1, help="How many, if not as the pipeline says.")]
TrialEpochs = Annotated[int | None, Option(min=1, help="At most so many.")]

# layers, probe, relevance

WeighingRuns = Annotated[
    list[str] | None, Argument(help="Run folders or names, by default the newest with layer weights.")
]
LayerStores = Annotated[
    list[str] | None,
    Argument(metavar="STORE", help="Names of stores, by default all that hold the layers of a model."),
]
ProbeTarget = Annotated[
    str | None,
    Option(help="The label to predict; LABEL=CLASS against all others; arousal,valence: numbers, each alone."),
]
RelevanceTarget = Annotated[
    str | None,
    Option(
        help="arousal,valence: each alone; a label: each of its classes against all others. By default the "
        "corpus's dimensions, or else its classes."
    ),
]
WeighingHead = Annotated[str, Option(help="A head that learns layer weights: dense, lstm, linear, ….")]
Norm = Annotated[str, Option(help="Whose statistics normalise: speaker (transductive), global or none.")]
FigureOut = Annotated[Path | None, Option(help="Where to write, without suffix.")]

# score

Predictions = Annotated[Path, Argument(help="A CSV table with a row per tested utterance.")]
TargetColumn = Annotated[str | None, Option(help="Column of the true labels, if not 'target'.")]
PredictionColumn = Annotated[str | None, Option(help="Column of the predicted ones, if not 'prediction'.")]
IdColumn = Annotated[str | None, Option("--id", help="Column that names the utterances, if not 'utterance_id'.")]
SpeakerColumn = Annotated[str | None, Option(help="Column of the speakers, if not 'speaker_id'.")]
SeedColumn = Annotated[str | None, Option(help="Column of the seeds, if not 'seed'; may be absent.")]
FoldColumn = Annotated[str | None, Option(help="Column of the folds, if not 'fold'; may be absent.")]
ClassNames = Annotated[str | None, Option(help="All labels, in the order of the tables, separated by commas.")]
ScoredTask = Annotated[
    TaskOption | None, Option(help="By default regression where there are columns target_<dimension>.")
]
MetricsOut = Annotated[Path | None, Option(help="Where to write all numbers, as metrics.json.")]

# compare, ensemble

ComparedRuns = Annotated[list[str], Argument(help="Two or more run folders or names that tested the same.")]
ComparisonOut = Annotated[Path | None, Option(help="CSV file to write the table to.")]
VotingRuns = Annotated[list[str], Argument(help="Two or more run folders or names.")]
Sizes = Annotated[str | None, Option(help="How many vote together, separated by commas; 3,5 by default.")]
Votes = Annotated[str, Option(help="hard (majority), soft (mean probability), or both.")]
EnsembleName = Annotated[str | None, Option(help="Name of the ensemble's folder.")]
ReplaceEnsemble = Annotated[bool, Option("--overwrite", help="Replace a folder of that name.")]
