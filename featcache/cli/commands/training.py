"""Cache → runs: heads trained on it, or a whole published experiment."""

from typing import Any

from featcache.cli import options, parsing
from featcache.cli.exit_codes import end
from featcache.terminal.escape import escaped

# Options of ``fit`` that override fields of the training's configuration.
_TRAINING = ("learning_rate", "batch_size", "max_epochs", "patience")


def fit(
    head: options.Heads = "dense",
    norm: options.Norms = "speaker",
    features: options.Features = None,
    layers: options.FittedLayers = "all",
    pooling: options.Pooling = None,
    scalar_norm: options.ScalarNorm = False,
    norm_by: options.NormBy = "speaker_id",
    layer_weighting: options.LayerWeighting = options.LayerWeightingOption.abs,
    corpus: options.Corpus = None,
    protocol: options.Protocol = None,
    target: options.Target = None,
    task: options.Task = None,
    label_range: options.LabelRange = None,
    select: options.Select = None,
    seeds: options.Seeds = 5,
    max_frames: options.MaxFrames = None,
    learning_rate: options.LearningRate = None,
    batch_size: options.BatchSize = None,
    max_epochs: options.MaxEpochs = None,
    patience: options.Patience = None,
    memory: options.Memory = None,
    device: options.Device = "cpu",
    jobs: options.Jobs = 1,
    scheduler: options.FitScheduler = None,
    name: options.RunName = None,
    resume: options.Resume = False,
    overwrite: options.Retrain = False,
) -> None:
    """Train heads on cached features, over all folds and seeds, and print the table.

    Every combination of heads, normalisations and layers is a run; runs that can read the features together do.
    """
    given = _for_sweep(parsing.plain(locals()))
    from featcache.fitting.fit import first_seeds, sweep

    runs = sweep(**given, seeds=first_seeds(seeds))
    from featcache.cli.listing import print_runs

    print_runs(runs)
    print()
    for run in runs:
        print(escaped(str(run.path)))


def _for_sweep(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``fit`` as :func:`~featcache.fitting.fit.sweep` calls and takes them, all but the seeds."""
    training = {name: given.pop(name) for name in _TRAINING}
    heads, norms = given.pop("head").split(","), given.pop("norm").split(",")
    del given["seeds"]
    return given | {
        "heads": heads,
        "norms": norms,
        "layers": parsing.layer_settings(given["layers"]),
        "features": parsing.split(given["features"]),
        "label_range": parsing.label_range(given["label_range"]),
        "select": parsing.selection(given["select"]),
        "training": {name: value for name, value in training.items() if value is not None},
    }


def run(
    pipeline: options.Pipeline = None,
    corpus: options.Corpus = None,
    data: options.CorpusData = None,
    only: options.Only = None,
    limit: options.Limit = None,
    weights: options.TrialWeights = None,
    protocol: options.TrialProtocol = None,
    seeds: options.TrialSeeds = None,
    max_epochs: options.TrialEpochs = None,
    device: options.Device = "auto",
    dry_run: options.DryRun = False,
) -> None:
    """Do a published experiment from audio to table, the paper's numbers beside ours; what is there is not done again.

    --limit, --weights, --protocol, --seeds and --max-epochs make it a trial, and every row of the table says so.
    """
    given = parsing.plain(locals())
    from featcache.cli.pipelines import print_pipelines, run_and_print

    if pipeline is None:
        print_pipelines()
        return
    outcome = run_and_print(**given | {"only": parsing.split(only)})
    end(interrupted=outcome.interrupted, num_failures=outcome.num_failures)
