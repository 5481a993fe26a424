"""Options and arguments of the commands without settings, each defined once: type and help text.

A command annotates a parameter with one of these aliases and gives it a default. The order is that of the data flow.
The options of extract, import-features, transcribe, fit, run, probe and relevance are defined in
``featcache/settings/``.
"""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

# Options of several commands

Corpus = Annotated[str | None, Option(metavar="NAME", help="Corpus whose runs are searched [default: all].")]
CorpusData = Annotated[
    Path | None, Option(metavar="PATH", help="Folder of the corpus [default: the corpus in data/corpora].")
]
Device = Annotated[
    str,
    Option(metavar="TEXT", show_default=False, help="Device: cpu, cuda, cuda:1, mps or auto [default: cpu]."),
]

# demo, corpora

DemoFolder = Annotated[
    Path,
    Option(metavar="PATH", show_default=False, help="Folder for all results [default: featcache-demo]."),
]
CorpusName = Annotated[
    str | None, Argument(metavar="NAME", help="Corpus whose details are shown: a name, or a description in YAML.")
]

# new-corpus

CorpusFolder = Annotated[Path, Argument(metavar="FOLDER", help="Folder of the corpus.")]
NewName = Annotated[
    str | None,
    Option("--name", metavar="NAME", show_default=False, help="Name of the corpus [default: the name of the folder]."),
]
DescriptionFile = Annotated[
    Path | None,
    Option("--out", metavar="PATH", show_default=False, help="File to write [default: data/descriptions/NAME.yaml]."),
]

# models, fetch

ModelName = Annotated[
    str | None,
    Argument(
        metavar="NAME", help="Model whose details are shown: a short or s3prl name, a Hugging Face id or a folder."
    ),
]
FetchedNames = Annotated[
    list[str],
    Argument(
        metavar="NAME",
        help="Corpora, such as emodb; short names of models, names of s3prl or Hugging Face ids; with --convert also "
        "folders of models.",
    ),
]

# import-features

FeatureFolder = Annotated[
    Path,
    Argument(metavar="FOLDER", help="Folder with one .npy, .npz or HDF5 file per utterance, named by utterance id."),
]

# info, verify, merge

Shown = Annotated[
    Path | None,
    Argument(metavar="PATH", help="Path or name of a cache, store, run or transcripts [default: the only cache]."),
]
Store = Annotated[Path, Argument(metavar="STORE", help="Folder of the store.")]
Recompute = Annotated[
    str, Option(metavar="INTEGER", show_default=False, help="Number of utterances to recompute [default: 4].")
]
MovedModel = Annotated[
    str | None,
    Option(metavar="PATH", help="New folder of the model or file of the extractor [default: the recorded one]."),
]
Plugins = Annotated[
    list[str] | None,
    Option(
        "--plugin",
        metavar="REFERENCE",
        help="External code that the store may refer to: package.module:Class or ./file.py:Class. Can be repeated.",
    ),
]
Augment = Annotated[
    list[str] | None,
    Option(
        metavar="TEXT",
        help="Augmentation of a view as in 'featcache extract', needed if it names a folder. Can be repeated.",
    ),
]
MergedStore = Annotated[Path, Argument(metavar="INTO", help="Store to fill; it is created if it does not exist.")]
Parts = Annotated[list[Path], Argument(metavar="PART", help="Stores with the same settings; they are only read.")]

# run

Pipeline = Annotated[
    str | None,
    Argument(metavar="PIPELINE", help="Name of a pipeline, or a YAML file. Without it, all pipelines are listed."),
]
Show = Annotated[bool, Option("--show", help="Print the YAML of the pipeline, as a template for your own.")]

# layers, probe, relevance

WeighingRuns = Annotated[
    list[str] | None,
    Argument(metavar="RUN", help="Names or folders of runs [default: the newest run with layer weights]."),
]
PretrainedModels = Annotated[
    list[str] | None,
    Option(
        metavar="[STORE=]PATH",
        help="Folder of the pretrained model of a fine-tuned run, if its store has only lower layers. Can be repeated.",
    ),
]
LayerStores = Annotated[
    list[str] | None,
    Argument(metavar="STORE", help="Names of stores [default: all stores with the layers of a model]."),
]

FigureOut = Annotated[
    Path | None,
    Option(metavar="PATH", help="Path of the figures and the table, without suffix [default: the folder of the runs]."),
]

# predict

PredictingRun = Annotated[
    str,
    Argument(
        metavar="RUN", help="Name or folder of a run or ensemble, a published folder, or hf:owner/name[@revision]."
    ),
]
NewAudio = Annotated[
    list[str],
    Argument(metavar="AUDIO", help="Audio files, folders, a manifest.csv, or the name or folder of a corpus."),
]

# score

Predictions = Annotated[
    Path, Argument(metavar="FILE", help="CSV table with one row per tested utterance, or the name or folder of a run.")
]
TargetColumn = Annotated[str | None, Option(metavar="NAME", help="Column of the true labels [default: target].")]
PredictionColumn = Annotated[
    str | None, Option(metavar="NAME", help="Column of the predicted labels [default: prediction].")
]
IdColumn = Annotated[
    str | None, Option("--id", metavar="NAME", help="Column of the utterance ids [default: utterance_id].")
]
SpeakerColumn = Annotated[
    str | None, Option(metavar="NAME", help="Column of the speakers; optional [default: speaker_id].")
]
SeedColumn = Annotated[str | None, Option(metavar="NAME", help="Column of the seeds; optional [default: seed].")]
FoldColumn = Annotated[str | None, Option(metavar="NAME", help="Column of the folds; optional [default: fold].")]
ClassNames = Annotated[
    str | None,
    Option(metavar="NAME,NAME", help="All classes, in the order of the tables [default: the classes in the table]."),
]
ScoredTask = Annotated[
    str | None,
    Option(
        metavar="classification|regression|multilabel",
        help="Task type [default: regression if there are columns such as target_arousal; multilabel if each also has "
        "a column such as p_arousal; otherwise classification].",
    ),
]
GroupLabels = Annotated[
    str | None,
    Option(
        metavar="LABEL,LABEL",
        help="Labels whose groups are scored and compared, such as gender,intensity: columns of the table or of "
        "--labels, or labels of the cached corpus of the run.",
    ),
]
LabelsFile = Annotated[
    Path | None,
    Option(
        "--labels",
        metavar="PATH",
        help="Table with a column utterance_id and the labels for --by, for example a manifest.csv.",
    ),
]
ReliabilityFigure = Annotated[
    Path | None,
    Option(metavar="PATH", help="Path of a reliability diagram, without suffix; the table needs probabilities."),
]
MetricsOut = Annotated[Path | None, Option(metavar="PATH", help="JSON file for all scores, like metrics.json.")]

# compare, ensemble

ComparedRuns = Annotated[
    list[str], Argument(metavar="RUN", help="Names or folders of two or more runs with the same test utterances.")
]
ComparisonOut = Annotated[Path | None, Option(metavar="PATH", help="CSV file for the table.")]
VotingRuns = Annotated[
    list[str],
    Argument(metavar="RUN|FILE", help="Two or more: names or folders of runs, and CSV tables of predictions."),
]
Sizes = Annotated[
    str | None,
    Option(
        metavar="INTEGER,INTEGER",
        help="Numbers of runs that vote together, separated by commas [default: 3,5; 2 for two runs; all runs if one "
        "has no validation predictions].",
    ),
]
Votes = Annotated[
    str | None,
    Option(
        metavar="hard|soft",
        help="Vote: hard (majority), soft (mean probability), or both, separated by a comma [default: hard,soft; hard "
        "if a run has no probabilities or no validation predictions].",
    ),
]
EnsembleCorpus = Annotated[
    str | None,
    Option(
        metavar="NAME", help="Corpus under whose runs the result is saved [default: that of the runs, or predictions]."
    ),
]
EnsembleName = Annotated[
    str | None, Option("--name", metavar="NAME", help="Name of the ensemble's folder [default: derived from the runs].")
]
ReplaceEnsemble = Annotated[bool, Option("--overwrite", help="Replace an ensemble that exists already.")]

# publish

PublishedRun = Annotated[str, Argument(metavar="RUN", help="Name or folder of the run.")]
PublishedFolder = Annotated[Path, Argument(metavar="FOLDER", help="Folder to write; it must be new or empty.")]

# runs, table, track

ListedCorpus = Annotated[str | None, Argument(metavar="CORPUS", help="Corpus whose runs are listed [default: all].")]
AsJson = Annotated[bool, Option("--json", help="Print JSON, with all settings of each run.")]
TableRuns = Annotated[
    list[str], Argument(metavar="RUN", help="Names or folders of runs, or patterns such as 'emodb/*'.")
]
RowSettings = Annotated[
    str | None,
    Option(
        metavar="NAME,NAME",
        help="Settings in the rows, such as head or learning_rate: any name in config.yaml [default: the settings in "
        "which the runs differ].",
    ),
]
ColumnSettings = Annotated[
    str | None, Option(metavar="NAME,NAME", help="Settings in the columns [default: a single column].")
]
GridFormat = Annotated[
    str | None,
    Option(
        "--format",
        metavar="text|markdown|latex|csv",
        help="Format of the table [default: that of the suffix of --out, otherwise text].",
    ),
]
Metric = Annotated[
    str | None,
    Option(metavar="NAME", help="Score: uar, wa, macro_f1, ccc, ccc_arousal, … [default: uar, or ccc for regression]."),
]
Part = Annotated[
    str,
    Option(metavar="test|validation", show_default=False, help="Part whose scores are shown [default: test]."),
]
Reference = Annotated[
    str | None,
    Option(metavar="RUN", help="Run with which all others are compared [default: the best one of each column]."),
]
TableOut = Annotated[Path | None, Option(metavar="PATH", help="File for the table [default: the terminal].")]
Tracker = Annotated[str, Option("--to", metavar="tensorboard|mlflow", show_default=False, help="Tracker.")]
TrackerOut = Annotated[
    Path | None, Option(metavar="PATH", help="Folder of the TensorBoard logs [default: data/tensorboard].")
]
TrackerUri = Annotated[
    str | None,
    Option(
        "--uri",
        metavar="URI",
        help="MLflow tracking server or database, such as http://host:5000 or sqlite:///mlflow.db [default: "
        "$MLFLOW_TRACKING_URI, otherwise sqlite:///mlflow.db].",
    ),
]

# report

ReportedCorpus = Annotated[
    str | None, Argument(metavar="CORPUS", help="Corpus whose runs are shown [default: the only one with runs].")
]

# check

CorpusToCheck = Annotated[
    str | None,
    Argument(
        metavar="CORPUS",
        help="Name of the corpus in data/corpora, or the path of its folder or table [default: the only corpus].",
    ),
]
