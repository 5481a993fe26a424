"""Cache → run folder: everything that one ``featcache fit`` does, in the order of the data flow."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featcache.cache.reader import FeatureCache
from featcache.errors import StoreError
from featcache.evaluate.metrics import summarise
from featcache.heads import Dense, create_head
from featcache.manifest import Manifest
from featcache.normalise import fit_normaliser
from featcache.progress import progress
from featcache.protocols import Fold
from featcache.threads import available_cores, one_thread_each
from featcache.training import run_folder
from featcache.training.data import Features
from featcache.training.run_folder import Run
from featcache.training.setup import Setup, hash_of, head_sizes, resolve
from featcache.training.train import predict, train_seeds
from featcache.workspace import Workspace

log = logging.getLogger(__name__)

# Source: Pepino et al. 2021 as run; further seeds go on in the same steps.
SEEDS = (123, 1234, 2345, 3456, 4567)
DIVERGED = "seed {} of fold {!r} diverged, so its head is untrained: no finite validation loss; lower --learning-rate"


def first_seeds(number: int) -> tuple[int, ...]:
    """The seeds of Pepino et al. 2021, and beyond five more in the same steps."""
    return tuple(123 if i == 0 else 1234 + 1111 * (i - 1) for i in range(number))


def fit(
    *,
    head: str = "dense",
    norm: str = "speaker",
    features: Sequence[str] | None = None,
    layers: str = "all",
    layer_weighting: str = "abs",
    corpus: str | None = None,
    protocol: str | None = None,
    target: str | None = None,
    select: Mapping[str, Sequence[str]] | None = None,
    seeds: Sequence[int] = SEEDS,
    max_frames: int | None = None,
    training: Mapping[str, Any] | None = None,
    name: str | None = None,
    overwrite: bool = False,
    home: str | os.PathLike[str] | None = None,
) -> Run:
    """Train a head over all folds and seeds of a protocol, and leave a run folder.

    Args:
        head: ``dense``, ``lstm`` or ``fusion``.
        norm: ``speaker``, ``global`` or ``none``.
        features: Names of stores. By default the only model's store, with ``egemaps`` beside it for ``fusion``.
        layers: ``all``, ``local``, ``last``, or a list such as ``0,4-8``.
        layer_weighting: ``abs``, w = |a| / Σ|a|, or ``softmax``.
        corpus: Name under ``data/cache``; may be left out when there is one.
        protocol: A name in ``featcache.protocols.PROTOCOLS``; by default the manifest's split, ``loso`` for up to
            twelve speakers, ``group-kfold`` for more.
        target: The label to predict; by default the protocol's or the corpus's.
        select: Take only utterances whose labels have these values.
        seeds: One training each per fold.
        max_frames: How many frames of each utterance are used; by default 400 (8 s), for RAVDESS 250. 0 is all.
        training: Fields of :class:`~featcache.training.train.TrainingConfig` that differ from their defaults.
        name: Of the run folder; by default made from the settings.
        overwrite: Train again although a finished run of that name is there.
        home: Where everything lives; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The finished run. One with the same settings that is there already is given back as it is.

    Raises:
        FeatcacheError: nothing to fit, an unknown name, folds that cannot be made, one class only, features that an
            interrupted extraction left unfinished.
    """
    workspace = Workspace.at(home)
    cache = FeatureCache(workspace.find_cache(corpus))
    setup = resolve(
        cache,
        head=head,
        norm=norm,
        names=_several(features),
        layers=layers,
        layer_weighting=layer_weighting,
        protocol=protocol,
        target=target,
        select={column: _several(values) for column, values in (select or {}).items()},
        seeds=tuple(dict.fromkeys(map(int, seeds))),
        max_frames=max_frames,
        training=dict(training or {}),
    )
    folder = workspace.runs(cache.name) / _checked(name or _run_name(setup.config))
    finished = _finished(folder, setup.config, overwrite=overwrite)
    if finished:
        log.info("%s is there already; --overwrite trains it again", folder)
        return finished
    for note in setup.notes:
        log.info("%s", note)
    for warning in setup.warnings:
        log.warning("%s", warning)
    with run_folder.new_run(folder) as unfinished:
        run_folder.write_yaml(unfinished / "config.yaml", setup.config)
        tables = _train_all(setup, unfinished)
        _write_results(unfinished, setup, tables, title=folder.name)
    return Run(folder)


@dataclass(frozen=True, kw_only=True)
class _Tables:
    predictions: list[list[Any]]
    history: list[list[Any]]
    layer_weights: list[list[Any]]


def _train_all(setup: Setup, folder: Path) -> _Tables:
    """Train every seed of every fold."""
    seeds = setup.config["seeds"]
    labels = setup.manifest.labels(setup.target)
    targets = {utterance_id: setup.classes.index(label) for utterance_id, label in labels.items()}
    sizes = head_sizes(setup.features, len(setup.classes), setup.config["layer_weighting"])
    tables = _Tables(predictions=[], history=[], layer_weights=[])
    total = len(setup.folds) * len(seeds)
    title = f"{setup.config['head']}, {len(setup.folds)} folds x {len(seeds)} seeds"
    with (
        one_thread_each(),  # initial weights and predictions depend on the number of threads as well
        progress(title, total, rate=lambda done, took: f"{took / max(done, 1):.1f} s per training") as advance,
    ):
        for number, fold in enumerate(setup.folds, start=1):
            normalise(setup.features, setup.config["norm"], setup.manifest, fold, first=number == 1)
            heads = {seed: create_head(setup.config["head"], **sizes, seed=seed) for seed in seeds}
            trained = train_seeds(heads, setup.features, targets, fold, setup.training, workers=available_cores())
            for seed, epochs in trained:
                head = heads[seed]
                if not any(np.isfinite(epoch.validation_loss) for epoch in epochs):
                    setup.warnings.append(DIVERGED.format(seed, fold.name))
                    log.warning("%s", setup.warnings[-1])
                tables.history.extend([seed, number, *asdict(epoch).values()] for epoch in epochs)
                tables.predictions.extend(_predictions(setup, head, fold, seed, number))
                tables.layer_weights.extend(_layer_weights(setup, head, seed, number))
                _save_head(folder / "heads" / f"seed-{seed}-fold-{number}.safetensors", head)
                advance(1)
    return tables


def normalise(features: Sequence[Features], norm: str, manifest: Manifest, fold: Fold, *, first: bool) -> None:
    """Set the normalisers of a fold; those that do not depend on the fold stay, and what they computed stays kept."""
    if norm == "global" or first:
        for item in features:
            item.normalise_with(fit_normaliser(item.store, norm, manifest, fold.train))


def _predictions(setup: Setup, head: Dense, fold: Fold, seed: int, number: int) -> list[list[Any]]:
    probabilities = predict(head, setup.features, fold.test, setup.training.batch_size)
    rows = []
    for utterance_id, values in zip(fold.test, probabilities, strict=True):
        utterance = setup.manifest[utterance_id]
        prediction = setup.classes[int(np.argmax(values))]
        target = utterance.labels[setup.target]
        told = (f"{value:.6g}" for value in values)
        rows.append([seed, number, utterance_id, utterance.speaker_id, target, prediction, *told])
    return rows


def _layer_weights(setup: Setup, head: Dense, seed: int, number: int) -> list[list[Any]]:
    return [
        [seed, number, layer, float(weight), item.store.name]
        for item, weights in zip(setup.features, head.layer_weights(), strict=True)
        if weights is not None
        for layer, weight in zip(item.layer_names, weights, strict=True)
    ]


def _save_head(path: Path, head: Dense) -> None:
    from safetensors.torch import save_file

    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in head.state_dict().items()}, path)


def _write_results(folder: Path, setup: Setup, tables: _Tables, *, title: str) -> None:
    from featcache.report import figures
    from featcache.report.html import write_report

    keys = ["seed", "fold"]
    columns = [*keys, "utterance_id", "speaker_id", "target", "prediction", *(f"p_{name}" for name in setup.classes)]
    run_folder.write_rows(folder / "predictions.csv", columns, tables.predictions)
    epoch_columns = [*keys, "epoch", "train_loss", "validation_loss", "validation_uar"]
    run_folder.write_rows(folder / "history.csv", epoch_columns, tables.history)
    run_folder.write_rows(folder / "layer_weights.csv", [*keys, "layer", "weight", "features"], tables.layer_weights)
    metrics = summarise(run_folder.read_table(folder / "predictions.csv"), setup.classes)
    figures.save(figures.confusion_matrix(metrics["confusion"]["counts"], setup.classes), folder / "confusion_matrix")
    figures.save(figures.training_curves(run_folder.read_table(folder / "history.csv")), folder / "training_curves")
    shown = [
        ("confusion_matrix", "Recall in percent; in small print the utterances, averaged over seeds."),
        ("training_curves", "Losses of all folds and seeds; the dots mark the epochs whose weights were kept."),
    ]
    if tables.layer_weights and all(layer.isdigit() for _, _, layer, _, _ in tables.layer_weights):
        from featcache.report.layers import draw_layer_weights

        draw_layer_weights({title: run_folder.read_table(folder / "layer_weights.csv")}, folder / "layer_weights")
        shown.append(("layer_weights", "Learned layer weights; bars are the standard deviation over seeds."))
    run_folder.write_json(folder / run_folder.METRICS, metrics)
    write_report(
        folder,
        title=title,
        settings=setup.config,
        metrics=metrics,
        notes=setup.notes,
        warnings=setup.warnings,
        figures=shown,
    )


def _several(names: str | Sequence[str] | None) -> Sequence[str]:
    """One name is a sequence too, but of letters."""
    return [names] if isinstance(names, str) else names or []


def _checked(name: str) -> str:
    if name.startswith(".") or Path(name).name != name:
        raise StoreError(f"--name {name!r}: expected the name of a folder, with no slash in it and no dot at its start")
    return name


def _run_name(config: Mapping[str, Any]) -> str:
    layers = "" if config["layers"] in ("all", "-") else f"_{config['layers']}"
    features = "+".join(config["features"])
    return f"{features}{layers}_{config['head']}_{config['norm']}_{config['protocol']}_{hash_of(config)[:6]}"


def _finished(folder: Path, config: Mapping[str, Any], *, overwrite: bool) -> Run | None:
    try:
        run = Run(folder)
    except StoreError as error:
        if folder.exists() and not overwrite:
            raise StoreError(f"{error}; give this one another --name, or replace that one with --overwrite") from error
        return None
    if overwrite:
        return None
    if run.config != config:
        differing = sorted(key for key in {*run.config, *config} if run.config.get(key) != config.get(key))
        raise StoreError(
            f"{folder} is a run with other settings ({', '.join(differing)} differ); "
            "give this one another --name, or replace that one with --overwrite"
        )
    return run
