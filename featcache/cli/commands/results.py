"""Predictions and runs → what they say: scores, differences and votes."""

from featcache.cli import options, parsing
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
    out: options.MetricsOut = None,
) -> None:
    """Score anybody's predictions: means over seeds, and intervals over speakers and seeds."""
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
        task=task.value if task else None,
        out=out,
    )


def compare(runs: options.ComparedRuns, out: options.ComparisonOut = None) -> None:
    """Tell runs apart, pair by pair: difference, interval, tests over speakers and utterances, size of the effect."""
    from featcache.cli.comparison import print_comparison

    print_comparison(runs, out=out)


def ensemble(
    runs: options.VotingRuns,
    size: options.Sizes = None,
    vote: options.Votes = "hard,soft",
    name: options.EnsembleName = None,
    overwrite: options.ReplaceEnsemble = False,
) -> None:
    """Let combinations of runs vote; the one that is best on validation becomes a run of its own."""
    from featcache.cli.scores import print_ensemble
    from featcache.fitting.ensemble import ensemble as combine

    finished = combine(runs=runs, sizes=parsing.sizes(size), votes=vote.split(","), name=name, overwrite=overwrite)
    print_ensemble(finished)
    print(f"\n{escaped(str(finished.path))}")
