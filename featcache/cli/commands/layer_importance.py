"""Runs and stores → which layers matter: learned weights, linear probes, or both for each target."""

import sys
from typing import Any

import typer
from typer.core import TyperCommand

from featcache.cli import options, parsing
from featcache.cli.exit_codes import WRONG_USAGE

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


def probe(
    stores: options.LayerStores = None,
    corpus: options.Corpus = None,
    protocol: options.Protocol = None,
    target: options.ProbeTarget = None,
    task: options.Task = None,
    select: options.Select = None,
    out: options.FigureOut = None,
) -> None:
    """Draw the score of each layer alone: a linear model on utterance means, which are read from the cache."""
    given = _chosen(parsing.plain(locals()))
    from featcache.cli.layers import print_layer_scores

    print_layer_scores(**given)


def relevance(
    stores: options.LayerStores = None,
    corpus: options.Corpus = None,
    protocol: options.Protocol = None,
    target: options.RelevanceTarget = None,
    task: options.Task = None,
    select: options.Select = None,
    head: options.WeighingHead = "dense",
    norm: options.Norm = "speaker",
    seeds: options.Seeds = 5,
    device: options.Device = "cpu",
    out: options.FigureOut = None,
) -> None:
    """Draw learned layer weights and linear probes for each target: train a head on it alone, and probe each layer.

    Runs that exist are not trained again, and interrupted ones go on.
    """
    given = _chosen(parsing.plain(locals()))
    from featcache.cli.layers import print_layer_relevance
    from featcache.fitting.fit import first_seeds

    print_layer_relevance(**given | {"seeds": first_seeds(seeds)})


def _chosen(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options with the stores and the selection of utterances in the form that functions take."""
    return given | {"names": given.pop("stores") or [], "select": parsing.selection(given["select"])}
