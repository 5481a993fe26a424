"""Runs and stores → which layers matter: learned weights, linear probes, or both for each target."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from featcache.cli import options
from featcache.cli.exit_codes import WRONG_USAGE
from featcache.cli.from_settings import command_of
from featcache.settings.fits import ProbeSettings, RelevanceSettings

# Options of ``layers`` that have become commands.
_MOVED = {"--probe": "probe", "--per-target": "relevance"}


class LayersCommand(TyperCommand):
    """``featcache layers``, which names the new command where an option that has become one is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for option in filter(_MOVED.get, args):
            print(
                f"error: 'featcache layers {option}' is now 'featcache {_MOVED[option]}'; "
                f"'featcache {_MOVED[option]} --help' shows its options",
                file=sys.stderr,
            )
            raise typer.Exit(WRONG_USAGE)
        return super().parse_args(ctx, args)


def layers(
    runs: options.WeighingRuns = None,
    corpus: options.Corpus = None,
    out: options.FigureOut = None,
) -> None:
    """Draw the layer weights that runs learned."""
    from featcache.cli.layers import print_layer_weights

    print_layer_weights(runs or [], corpus=corpus, out=out)


@command_of(ProbeSettings)
def probe(given: dict[str, Any], stores: options.LayerStores = None, out: options.FigureOut = None) -> None:
    """Evaluate each layer alone: a linear model on the mean of each utterance, which is read from the cache."""
    from featcache.cli.layers import print_layer_scores

    print_layer_scores(stores or [], out=out, **given)


@command_of(RelevanceSettings)
def relevance(given: dict[str, Any], stores: options.LayerStores = None, out: options.FigureOut = None) -> None:
    """Draw learned layer weights and linear probes for each target: train a head on it alone, and probe each layer.

    By default the targets are the corpus's dimensional labels, or else its classes, each against all others. Runs that
    exist are not trained again, and interrupted runs are continued.
    """
    from featcache.cli.layers import print_layer_relevance

    print_layer_relevance(stores or [], out=out, **given)
