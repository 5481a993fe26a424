"""Runs and stores → layer importance: learned weights, linear probes, or both for each target."""

from typing import Any

import typer

from featcache.cli import options
from featcache.cli.exit_codes import WRONG_USAGE
from featcache.cli.from_settings import command_of
from featcache.cli.usage import Command
from featcache.settings.fits import ProbeSettings, RelevanceSettings
from featcache.terminal.lines import print_error

# Former options of ``layers`` that are commands now.
_MOVED = {"--probe": "probe", "--per-target": "relevance"}


class LayersCommand(Command):
    """``featcache layers``; for its former options, the error names the new command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option in filter(_MOVED.get, args):
            print_error(
                f"error: 'featcache layers {option}' is now 'featcache {_MOVED[option]}'; "
                f"'featcache {_MOVED[option]} --help' shows its options"
            )
            raise typer.Exit(WRONG_USAGE)
        return super().parse_args(ctx, args)


def layers(
    runs: options.WeighingRuns = None,
    corpus: options.Corpus = None,
    out: options.FigureOut = None,
    model: options.PretrainedModels = None,
) -> None:
    """Draw the learned layer weights of runs.

    For a fine-tuned run, also draw how far the output of each block moved from that of the pretrained block, on the
    validation utterances of each fold: linear CKA and mean cosine.
    """
    from featcache.cli.layers import print_layers

    print_layers(runs or [], corpus=corpus, out=out, models=model or [])


@command_of(ProbeSettings)
def probe(given: dict[str, Any], stores: options.LayerStores = None, out: options.FigureOut = None) -> None:
    """Evaluate each layer with a linear probe.

    The probe is a linear model on the mean of each utterance. The means are read from the cache.
    """
    from featcache.cli.layers import print_layer_scores

    print_layer_scores(stores or [], out=out, **given)


@command_of(RelevanceSettings)
def relevance(given: dict[str, Any], stores: options.LayerStores = None, out: options.FigureOut = None) -> None:
    """Draw layer weights and linear probes for each target.

    One head is trained for each target, and each layer is probed for it. The default targets are the dimensional labels
    of the corpus; a corpus without them is evaluated for each class against all others. Finished runs are not trained
    again, and interrupted runs are continued.
    """
    from featcache.cli.layers import print_layer_relevance

    print_layer_relevance(stores or [], out=out, **given)
