"""Predictions and runs → scores, comparisons and ensembles."""

from typing import get_args

from featcache.cli import options, parsing
from featcache.settings.fits import Task
from featcache.terminal.escape import escaped


def score(
    predictions: options.Predictions,
    target: options.TargetColumn = None,
    prediction: options.PredictionColumn = None,
    utterance_id: options.IdColumn = None,
    speaker: options.SpeakerColumn = None,
    seed: options.SeedColumn = None,
    fold: options.FoldColumn = None,
    classes: options.ClassNames = None,
    task: options.ScoredTask = None,
    by: options.GroupLabels = None,
    labels: options.LabelsFile = None,
    figure: options.ReliabilityFigure = None,
    out: options.MetricsOut = None,
) -> None:
    """Score a table of predictions, also from other programs.

    Scores are means over seeds. Confidence intervals are over speakers and seeds. If the table has a probability
    p_CLASS for each class, their calibration is printed: the expected calibration error (ECE) and the Brier score.
    """
    from featcache.cli.scores import print_score

    columns = {
        "target": target,
        "prediction": prediction,
        "utterance_id": utterance_id,
        "speaker_id": speaker,
        "seed": seed,
        "fold": fold,
    }
    print_score(
        predictions,
        columns={role: name for role, name in columns.items() if name},
        classes=parsing.split(classes),
        task=parsing.read_choice("--task", task, get_args(Task)) if task else None,
        by=() if by is None else [name.strip() for name in by.split(",")],
        labels=labels,
        figure=figure,
        out=out,
    )


def compare(runs: options.ComparedRuns, out: options.ComparisonOut = None) -> None:
    """Compare runs pairwise.

    For each pair of runs: difference, confidence interval, significance tests over speakers and over utterances, and
    effect size.
    """
    from featcache.cli.comparison import print_comparison

    print_comparison(runs, out=out)


def ensemble(
    runs: options.VotingRuns,
    size: options.Sizes = None,
    vote: options.Votes = None,
    corpus: options.EnsembleCorpus = None,
    name: options.EnsembleName = None,
    overwrite: options.ReplaceEnsemble = False,
) -> None:
    """Combine runs, and predictions of other programs, by voting.

    All combinations of the given sizes vote. The combination with the highest validation UAR is saved as a run. A table
    of predictions has the columns that 'featcache score' reads. Its validation predictions are in validation_FILE.csv
    beside FILE.csv; without them, all candidates vote together.
    """
    from featcache.cli.scores import print_ensemble
    from featcache.fitting.ensemble import ensemble as combine

    votes = None if vote is None else vote.split(",")
    sizes = parsing.sizes(size)
    finished = combine(runs=runs, sizes=sizes, votes=votes, corpus=corpus, name=name, overwrite=overwrite)
    print_ensemble(finished)
    print(f"\n{escaped(str(finished.path))}")
