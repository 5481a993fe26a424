"""Layer weights of runs, probes of layers, and both for each target → figures and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from featcache.cli.named import folders_in, output_path
from featcache.errors import StoreError, did_you_mean
from featcache.evaluate.scores import chance_of, digits_of, heading_of
from featcache.report.layers import (
    draw_layer_drift,
    draw_layer_scores,
    draw_layer_weights,
    store_label,
)
from featcache.report.relevance_figure import draw_layer_relevance
from featcache.report.tables import mean_and_std, plain_table
from featcache.runs.reader import RunFolder, find_run, finished_runs
from featcache.runs.tuned_inputs import read_tuned_inputs
from featcache.terminal.console import Console, Table, print_line
from featcache.units import counted
from featcache.workspace import Workspace

# Largest number of columns that show standard deviations too; wider tables show only means, to fit 80 columns.
MOST_WITH_SPREAD = 4


def print_layers(names: Sequence[str], *, corpus: str | None, out: Path | None, models: Sequence[str] = ()) -> None:
    """Draw the layer weights of runs and the drift of fine-tuned models, and print them.

    Args:
        names: Names or folders of runs; empty for the newest run with layer weights.
        corpus: Corpus whose runs are searched; None for all.
        out: Path of the figures without suffix, or None.
        models: Folders of the pretrained models of a fine-tuned run, if they are needed.

    Raises:
        StoreError: No run has layer weights.
    """
    workspace = Workspace.at()
    if names:
        runs = [find_run(workspace, name) for name in names]
    else:
        newest_first = reversed(finished_runs(workspace, corpus))
        runs = [run for run in [next((run for run in newest_first if not run.layer_weights.empty), None)] if run]
        if not runs:
            folder = workspace.home / "runs" if corpus is None else workspace.runs(corpus)
            near = "" if corpus is None else did_you_mean(corpus, [path.name for path in folders_in(folder.parent)])
            raise StoreError(f"no run with layer weights under {folder}; make one with 'featcache fit'{near}")
    tuned = [run for run in runs if read_tuned_inputs(run.path, run.config)]
    weighing = [run for run in runs if run not in tuned or not run.layer_weights.empty]
    if weighing:
        _print_layer_weights(weighing, out)
    for run in tuned:
        ending = "drift" if len(tuned) == 1 else f"drift_{run.name}"
        named = None if out is None else _place(out, out).with_name(f"{out.name}_{ending}")
        _print_drift(run, workspace, named, models)


def _print_layer_weights(runs: Sequence[RunFolder], out: Path | None) -> None:
    path = _place(out, (runs[0].path if len(runs) == 1 else runs[0].path.parent) / "layer_weights")
    same_name = len({run.name for run in runs}) < len(runs)
    labels = [f"{run.config['corpus']}/{run.name}" if same_name else run.name for run in runs]
    weights = {label: run.layer_weights for label, run in zip(labels, runs, strict=True)}
    summary = draw_layer_weights(weights, path, required=out is not None)
    Console().print(_layer_table(_over_seeds(summary), "run", digits=4))
    _print_files(path, "_summary.csv")


def _print_drift(run: RunFolder, workspace: Workspace, out: Path | None, models: Sequence[str]) -> None:
    """Draw and print how far each layer of the fine-tuned models of a run moved from the pretrained one."""
    from featcache.fitting.drift import drift_summary, layer_drift

    drift = layer_drift(run, workspace, models)
    measures = {measure: drift_summary(drift, measure) for measure in ("cka", "cosine")}
    path = run.path / "layer_drift" if out is None else out
    draw_layer_drift(drift, measures, run.layer_weights, path, required=out is not None)
    number = counted(len(drift[["seed", "fold"]].drop_duplicates()), "training")
    print_line(f"{run.name}: fine-tuned against pretrained layers, on validation utterances; 1 is unchanged")
    print_line(f"mean ± standard deviation over {number}")
    columns = [
        summary.assign(column=f"{store} {title}" if len(of_stores) > 1 else title)
        for title, of_stores in (("CKA", measures["cka"]), ("cosine", measures["cosine"]))
        for store, summary in of_stores.items()
    ]
    Console().print(_layer_table(pd.concat(columns), "column", digits=4))
    _print_files(path, ".csv")


def print_layer_scores(names: Sequence[str], *, out: Path | None, **options: Any) -> None:
    """Fit a linear probe to each layer of stores, draw the scores, and print them.

    Args:
        names: Names of stores.
        out: Path of the figures without suffix, or None.
        options: Options of :func:`~featcache.fitting.probe.probe_stores`.

    Raises:
        FeatcacheError: See :func:`~featcache.fitting.probe.probe_stores`.
    """
    from featcache.fitting.probe import probe_stores

    found = probe_stores(names, **options)
    path = _place(out, Workspace.at().runs(found.corpus) / "layer_probe")
    scores = {store_label(store): of_store for store, of_store in found.scores}
    summary = draw_layer_scores(scores, path, score=found.score, chance=found.chance, required=out is not None)
    named = summary["target"] + " " if len(found.targets) > 1 else ""
    column = (summary["store"] + " " + named + heading_of(found.score)).rename("column")
    print_line(
        f"Linear probes of utterance means, {found.protocol}, {counted(found.num_folds, 'fold')}; "
        "± standard deviation over folds"
    )
    Console().print(_layer_table(summary.assign(column=column), "column", digits=digits_of(found.score)))
    if found.score == "uar":
        print_line()
        print_line(chance_of({"chance_uar": found.chance}))
    _print_files(path, ".csv")


def print_layer_relevance(names: Sequence[str], *, out: Path | None, **options: Any) -> None:
    """Draw and print the layer weights and the linear probes of each target, for each store.

    Args:
        names: Names of stores.
        out: Path of the figures without suffix, or None; for several stores, their names are added.
        options: Options of :func:`~featcache.fitting.relevance.layer_relevance`.

    Raises:
        FeatcacheError: See :func:`~featcache.fitting.relevance.layer_relevance`.
    """
    from featcache.fitting import relevance as layerwise

    found = layerwise.layer_relevance(names, **options)
    console = Console()
    for one in found:
        [store] = one.stores
        first = next(iter(one.runs.values()))
        path = _place(out, first.path.parent / "layer_relevance")
        if out is None or len(found) > 1:
            path = path.with_name(f"{path.name}_{store.name}")
        summary = draw_layer_relevance(one, path, required=out is not None)
        weights = _over_seeds(summary.rename(columns={"weight": "mean", "weight_std": "std"}))
        scores = summary.rename(columns={one.score: "mean", f"{one.score}_std": "std"})
        told = [first.config[name] for name in ("head", "norm", "protocol")]
        spread = len(one.runs) <= MOST_WITH_SPREAD
        several = spread and bool((summary["num_seeds"] > 1).any())
        over_seeds = "; ± standard deviation over seeds" if several else ""
        over_folds = "; ± standard deviation over folds" if spread else ""
        print_line("{}: {}, {} normalisation, {}".format(store_label(store), *told))
        print_line()
        print_line(f"Learned layer weights (uniform: {1 / summary['layer'].nunique():.4f}){over_seeds}")
        console.print(_layer_table(weights, "target", digits=4, spread=spread))
        print_line()
        print_line(f"Linear probes of utterance means, {heading_of(one.score)}{over_folds}")
        console.print(_layer_table(scores, "target", digits=digits_of(one.score), spread=spread))
        _print_files(path, ".csv")
        print_line()


def _over_seeds(summary: pd.DataFrame) -> pd.DataFrame:
    """Return a table of layer weights without the standard deviation over a single seed."""
    return summary.assign(std=summary["std"].where(summary["num_seeds"] > 1))


def _layer_table(summary: pd.DataFrame, column: str, *, digits: int, spread: bool = True) -> Table:
    """Return a table with one row per layer, and one column per value of ``column``.

    A standard deviation that is not finite, as over a single fold, is omitted.
    """
    import numpy as np

    columns = list(dict.fromkeys(summary[column]))
    table = plain_table("Layer", *columns)
    for layer, rows in summary.groupby("layer", sort=False):
        told = {
            row[column]: mean_and_std(row["mean"], row["std"] if spread and np.isfinite(row["std"]) else None, digits)
            for row in rows.to_dict("records")
        }
        table.add_row(str(layer), *(told.get(name, "-") for name in columns))
    return table


def _place(out: Path | None, usual: Path) -> Path:
    """Return the path of the output files, without suffix."""
    return usual if out is None else output_path(out, "--out", "figures/layers")


def _print_files(path: Path, table: str) -> None:
    """Print the paths of the output files if they were written."""
    if path.with_name(f"{path.name}{table}").exists():
        print_line()
        print_line(f"{path}.png  .svg  .pdf  {table}")
