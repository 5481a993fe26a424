"""Cache → runs: the commands that train heads and run published experiments."""

from typing import Any

from featcache.cli import options, parsing
from featcache.cli.exit_codes import end
from featcache.cli.from_settings import command_of
from featcache.settings.finetunings import NOT_IN_FINETUNING, FinetuneSettings
from featcache.settings.fits import FitSettings
from featcache.settings.trials import PipelineSettings
from featcache.settings.types import read_names
from featcache.terminal.escape import escaped


@command_of(FitSettings, as_text=("head", "norm", "layers", "train_fraction"))
def fit(given: dict[str, Any]) -> None:
    """Train heads on cached features, and print a table of scores.

    A run trains one head for each fold and seed. --head, --norm, --layers and --train-fraction accept several values,
    separated by commas; each combination is a run. Runs with the same features are trained together. Several fractions
    give a learning curve. With --sweep, each combination is a search whose run has the chosen setting.
    """
    from featcache.fitting.fit import fit_combinations
    from featcache.fitting.repeat import expanded

    asked = expanded({**given, **{name: read_names(given[name]) for name in ("head", "norm") if name in given}})
    heads, norms = (read_names(asked.pop(name, default)) for name, default in (("head", "dense"), ("norm", "speaker")))
    fractions = read_names(str(asked.pop("train_fraction", 1.0)))
    runs = fit_combinations(
        asked,
        heads=heads,
        norms=norms,
        layers=parsing.layer_settings(asked.pop("layers", "all")),
        fractions=fractions,
    )
    from featcache.cli.learning_curves import print_curve
    from featcache.cli.listing import print_fitted
    from featcache.cli.search_table import print_search

    if len(set(map(float, fractions))) > 1:
        print_curve(runs)
    else:
        print_fitted(runs)
    for run in runs:
        print_search(run)
    print()
    for run in runs:
        print(escaped(str(run.path)))


@command_of(FinetuneSettings, omit=NOT_IN_FINETUNING)
def finetune(given: dict[str, Any]) -> None:
    """Train the upper blocks of a model from a stored layer, together with a head, and print its scores.

    The parts of the model below --from-layer are never computed, because the cache has their outputs. Each seed and
    fold begins with the pretrained blocks. The run folder has the fine-tuned models. With --sweep, it has those of the
    chosen setting.
    """
    from featcache.fitting.finetune import finetune_given

    run = finetune_given(given)
    from featcache.cli.listing import print_fitted
    from featcache.cli.search_table import print_search

    print_fitted([run])
    print_search(run)
    print()
    print(escaped(str(run.path)))


@command_of(PipelineSettings)
def run(given: dict[str, Any], pipeline: options.Pipeline = None, show: options.Show = False) -> None:
    """Run a published experiment from audio to the final table.

    The table shows the results of the paper beside ours. Stores and runs that exist are not recomputed. With --only,
    --limit, --weights, --model, --protocol, --seeds or --max-epochs the experiment is a trial, and each row of the
    table is marked.
    """
    from featcache.cli.pipelines import print_pipeline, print_pipelines, run_and_print

    if pipeline is None:
        print_pipelines()
    elif show:
        print_pipeline(pipeline)
    else:
        outcome = run_and_print(pipeline=pipeline, **given)
        end(interrupted=outcome.interrupted, num_failures=outcome.num_failures)
