"""Options and arguments of the commands that have no settings, each defined once: type, bounds and help text.

A command annotates a parameter with one of these aliases and gives it a default. The order is that of the data flow.
The options of extract, transcribe, fit, run, probe and relevance are in ``featcache/settings/``.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from typer import Argument, Option


class TaskOption(StrEnum):
    """Kinds of targets."""

    classification = "classification"
    regression = "regression"


# Several groups of commands

Corpus = Annotated[str | None, Option(help="Name of the corpus, where there are several.")]
CorpusData = Annotated[Path | None, Option(help="The corpus's folder, if not under data/corpora.")]
Device = Annotated[str, Option(help="cpu, cuda, cuda:1, mps, … or auto.")]

# demo, corpora

DemoFolder = Annotated[Path, Option(help="Where to leave everything.")]
CorpusName = Annotated[str | None, Argument(help="Show one corpus in full.")]

# import-features

FeatureFolder = Annotated[Path, Argument(help="A folder with a .npy, .npz or HDF5 file for each utterance.")]

# info, verify, merge

Shown = Annotated[
    Path | None, Argument(help="Path or name of a store, cache, run or transcripts [default: the only cache].")
]
Store = Annotated[Path, Argument(help="The store.")]
Recompute = Annotated[int, Option(min=0, help="Utterances to compute anew, alone.")]
MovedModel = Annotated[str | None, Option(help="Folder of the model or file of the extractor, if it has moved.")]
Plugins = Annotated[
    list[str] | None,
    Option("--plugin", metavar="REFERENCE", help="Code from outside that the store may name: package.module:Class."),
]
MergedStore = Annotated[Path, Argument(help="The store to be filled; made when missing.")]
Parts = Annotated[list[Path], Argument(help="Stores of the same settings; they are only read.")]

# run

Pipeline = Annotated[str | None, Argument(help="A YAML file, or the name of a pipeline; without it all are listed.")]
Show = Annotated[bool, Option("--show", help="Print the pipeline's YAML, to be saved and edited.")]

# layers, probe, relevance

WeighingRuns = Annotated[
    list[str] | None, Argument(help="Run folders or names, by default the newest with layer weights.")
]
LayerStores = Annotated[
    list[str] | None,
    Argument(metavar="STORE", help="Names of stores, by default all that hold the layers of a model."),
]

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
