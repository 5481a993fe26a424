"""Run → published folder: a run folder without the files and entries that name persons, utterances or folders."""

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featcache.errors import ModelError, StoreError, listed
from featcache.fetching.model_folder import new_folder, only_one
from featcache.files.disk import writing
from featcache.files.regular import replace_file, resolved
from featcache.files.values import damaged
from featcache.publishing.licences import source_of_corpus, source_of_extractor
from featcache.publishing.model_card import CardContent, write_card
from featcache.publishing.published_files import FIGURE, ONNX, unexpected_files
from featcache.publishing.published_models import write_models
from featcache.publishing.shareable import check_shareable, shareable_config, shareable_metrics
from featcache.publishing.upload import check_repository, upload
from featcache.registry import naming
from featcache.runs.file_names import CONFIG, HEADS, LAYER_WEIGHTS, METRICS, NORMALISATION, head_name, seed_and_fold
from featcache.runs.identity import FROM_LAYER, PUBLISHED, PUBLISHED_HEADS, STORE_SETTINGS
from featcache.runs.parse import REFIT, Saved, open_tensors, read_config
from featcache.runs.reader import RunFolder, find_run
from featcache.runs.saved_statistics import missing_statistics, read_statistics, write_statistics
from featcache.runs.writer import record_checksums, write_json, write_table, write_yaml
from featcache.settings.checked import configured
from featcache.settings.public import documented, without
from featcache.settings.publications import PublishSettings
from featcache.workspace import Workspace

if TYPE_CHECKING:
    from featcache.runs.saved_head import SavedHead

log = logging.getLogger(__name__)

_WEIGHT_COLUMNS = ["seed", "fold", "layer", "weight", "features"]


@documented("featcache.publish", PublishSettings, expand=naming("plugin"))
def publish(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    seed: int | None = None,
    fold: int | None = None,
    onnx: bool = False,
    license: str | None = None,
    push: str | None = None,
    private: bool = False,
    overwrite: bool = False,
    plugin: Sequence[str] = (),
    home: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a folder with the heads of a run that can be shared, with a model card.

    The folder opens like a run: ``featcache.load_run(folder).head(seed=…, fold=…)`` gives the same outputs. It has no
    predictions, no ids of speakers or utterances, no code, no audio and no paths. Statistics of speakers are not
    published: with ``speaker`` normalisation, a new speaker needs statistics of their own. The folder of a fine-tuned
    run also has its models.

    A folder that was published from the same run is kept, with changes of its model card, and uploaded with ``push``.

    Args:
        run: The run folder, or its name under ``data/runs``.
        folder: Folder to write; it must be new or empty.
        home: Folder of corpora, caches and runs; by default ``$FEATCACHE_HOME``, or ``data``.

    Returns:
        The folder.

    Raises:
        StoreError: the run is not finished, is an ensemble or has no such head, or the folder contains something else.
        ModelError: the head is a file with code, or cannot be exported to ONNX, like those of fine-tuned runs; or the
            upload failed.
        MissingPackageError: ``onnx`` without the packages of the extra.

    Example:
        >>> folder = featcache.publish("data/runs/emodb/mine", "shared")
        >>> sorted(path.name for path in folder.iterdir())[:3]
        ['README.md', 'checksums.sha256', 'config.yaml']
    """
    asked = configured(PublishSettings, without(locals(), "run", "folder", "home"))
    workspace, target = Workspace.at(home), Path(folder)
    found = find_run(workspace, os.fspath(run))
    check_shareable(found)
    if asked.onnx and FROM_LAYER in found.config:
        raise ModelError(f"--onnx: the models of {found.path}, a fine-tuned run, cannot be exported; remove it")
    if asked.push is not None:
        check_repository(asked.push)
    heads = _heads(found, asked)
    config = shareable_config(found, workspace)
    if (asked.seed, asked.fold) != (None, None):
        config[PUBLISHED_HEADS] = [list(one) for one in heads]
    if resolved(target) == resolved("."):
        raise StoreError("FOLDER is the current folder; give the name of a new folder")
    with only_one(target):
        if _exists(target, config, asked):
            log.info("%s exists already and is kept as it is; --overwrite writes it again", target)
        else:
            _write(target, found, heads, config, asked, workspace)
    if asked.push is not None:
        upload(target, asked.push, private=asked.private)
    return target


def _exists(folder: Path, config: Mapping[str, Any], asked: PublishSettings) -> bool:
    """Return whether a folder was published from the same run and is kept.

    Raises:
        StoreError: the folder contains something else.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return False
    try:
        there = read_config(folder)
        is_published = bool(there.get(PUBLISHED))
    except StoreError:
        there, is_published = None, False
    if not is_published:
        raise StoreError(f"{folder} exists and is no published folder; give the name of a new folder")
    if asked.overwrite:
        others = sorted(unexpected_files(folder))
        if others:
            raise StoreError(f"{folder} contains files that were not published ({listed(others)}); move them first")
        return False
    if there != config:
        raise StoreError(f"{folder} was published from another run; give another folder, or replace it by --overwrite")
    if asked.onnx and not (folder / ONNX).is_dir():
        raise StoreError(f"{folder} has no ONNX graphs; write it again with --overwrite, or give another folder")
    return True


def _write(
    target: Path,
    run: RunFolder,
    heads: Sequence[tuple[int, int]],
    config: dict[str, Any],
    asked: PublishSettings,
    workspace: Workspace,
) -> None:
    with new_folder(target) as folder:
        metrics, settings = shareable_metrics(run), config[STORE_SETTINGS]
        known = Saved(config, run.path / CONFIG)
        write_yaml(folder / CONFIG, config)
        write_json(folder / METRICS, metrics)
        write_models(folder, run, heads)
        loaded = list(_write_heads(folder, run, heads))
        _write_normalisation(folder, run, loaded[0][2])
        has_figure = _write_layer_weights(folder, run)
        if asked.onnx:
            from featcache.publishing.onnx_files import write_graphs

            write_graphs(folder / ONNX, loaded)
        record_checksums(folder)
        write_card(
            folder,
            CardContent(
                title=run.name,
                config=known,
                metrics=Saved(metrics, run.path / METRICS, {}),
                num_heads=len(loaded),
                corpus=source_of_corpus(known, workspace),
                extractors=[source_of_extractor(one, settings.get(one, {})) for one in known["features"]],
                license=asked.license,
                repository=asked.push,
                figure=has_figure,
                onnx=asked.onnx,
            ),
        )
        if target.is_dir():
            with writing(target):
                shutil.rmtree(target)


def _heads(run: RunFolder, asked: PublishSettings) -> list[tuple[int, int]]:
    """Return seed and fold of each head that is published.

    Raises:
        StoreError: there is none.
    """
    named = (seed_and_fold(path.stem) for path in (run.path / HEADS).glob("*.safetensors"))
    there = sorted(one for one in named if one)
    if not there:
        raise StoreError(f"{run.path} has no heads; {REFIT}")
    wanted = [one for one in there if asked.seed in (None, one[0]) and asked.fold in (None, one[1])]
    if not wanted:
        seeds, folds = (", ".join(map(str, sorted({one[i] for one in there}))) for i in (0, 1))
        raise StoreError(f"{run.path} has no such head; expected --seed {seeds}, and --fold {folds}")
    return wanted


def _write_heads(folder: Path, run: RunFolder, heads: Sequence[tuple[int, int]]) -> "list[tuple[int, int, SavedHead]]":
    """Write the weights of heads, and return seed, fold and each head as it is loaded, without fine-tuned models."""
    from safetensors.torch import save

    from featcache.heads.tuned import TunedHead
    from featcache.runs.heads import load_head

    loaded = []
    for seed, fold in heads:
        saved = load_head(run.path, run.config, seed=seed, fold=fold)
        if isinstance(saved.head, TunedHead):
            saved.head = saved.head.inner  # All models together may not fit in memory.
        loaded.append((seed, fold, saved))
        with open_tensors(run.path, head_name(seed, fold)) as tensors:
            weights = {name: tensors.get_tensor(name).clone() for name in tensors.keys()}  # noqa: SIM118
        replace_file(folder / head_name(seed, fold), save(weights))
    return loaded


def _write_normalisation(folder: Path, run: RunFolder, head: "SavedHead") -> None:
    """Write the statistics of the folds for ``global`` normalisation; those of speakers are not published."""
    if run.config["norm"] != "global":
        return
    statistics = read_statistics(run.path, head.inputs)
    if statistics is None:
        raise missing_statistics(run.path, run.config)
    if not all(group.isdecimal() for group in statistics.groups):
        raise damaged(run.path / NORMALISATION, "groups: expected numbers of folds", REFIT)
    stores = {
        one.store: {group: (mean[i].numpy(), std[i].numpy()) for i, group in enumerate(statistics.groups)}
        for one, (mean, std) in zip(head.inputs, statistics.pairs, strict=True)
    }
    write_statistics(folder, stores)


def _write_layer_weights(folder: Path, run: RunFolder) -> bool:
    """Write the learned layer weights and their figure; return whether there is a figure."""
    weights = run.layer_weights
    write_table(folder / LAYER_WEIGHTS, weights[[name for name in _WEIGHT_COLUMNS if name in weights]])
    if weights.empty or not weights["layer"].str.isdigit().all():
        return False
    from featcache.report.layers import draw_layer_weights

    draw_layer_weights({" + ".join(run.config["features"]): weights}, folder / FIGURE)
    return True
