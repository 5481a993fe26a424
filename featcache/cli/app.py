"""The command line: thin commands in the order of the data flow. Each one calls what does the work."""

import logging
import math
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from featcache._version import __version__
from featcache.errors import FeatcacheError
from featcache.files.disk import is_told, refused
from featcache.terminal.escape import escaped, one_line
from featcache.terminal.interrupts import INTERRUPTED_LINE, leaving_imports, threads_are_left
from featcache.terminal.streams import lasting_streams, log_to_terminal

FINISHED_WITH_FAILURES = 3
INTERRUPTED = 130


class _Commands(TyperGroup):
    """All commands; each one that Ctrl-C ends says so."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print(INTERRUPTED_LINE, file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run a frozen speech model once, cache every layer, compare emotion-recognition heads in seconds.",
)


class Weights(StrEnum):
    pretrained = "pretrained"
    random = "random"


class Storage(StrEnum):
    float16 = "float16"
    float32 = "float32"
    int8 = "int8"


class Precision(StrEnum):
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Channel(StrEnum):
    mean = "mean"
    first = "first"


class TaskOption(StrEnum):
    classification = "classification"
    regression = "regression"


class LayerWeighting(StrEnum):
    abs = "abs"
    softmax = "softmax"


TRUST = "Dask runs code that any client sends: use a network where you trust every machine and user."

Corpus = Annotated[str | None, typer.Option(help="Name of the corpus, where there are several.")]


def main() -> None:
    """Run the command line; a user's mistake is told in one line and exits with 1."""
    with lasting_streams() as lost, leaving_imports(INTERRUPTED):
        code = _exit_code()
    if lost and not code:
        print(f"error: standard output could not be written ({lost[0]}); files are complete", file=sys.stderr)
        code = 1
    if code == INTERRUPTED and threads_are_left():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _exit_code() -> int | str | None:
    try:
        app(prog_name="featcache")
    except FeatcacheError as error:
        return _told(error)
    except OSError as error:
        if not is_told(error):
            raise
        return _told(refused(error.filename or "a file", error, "read or written"))
    except SystemExit as ended:
        return ended.code
    return 0


def _told(error: FeatcacheError) -> int:
    print(f"error: {one_line(str(error))}", file=sys.stderr)
    return 1


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"featcache {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")] = False,
) -> None:
    log_to_terminal(logging.WARNING if quiet else logging.INFO)


@app.command(epilog="Example: featcache demo")
def demo(
    folder: Annotated[Path, typer.Option(help="Where to leave everything.")] = Path("featcache-demo"),
) -> None:
    """The whole main job on synthetic speech, offline, in two minutes."""
    from featcache.cli.demo import run_demo

    run_demo(folder)


@app.command(epilog="Example: featcache corpora ravdess")
def corpora(name: Annotated[str | None, typer.Argument(help="Show one corpus in full.")] = None) -> None:
    """The corpora that are known, their protocols, and what lies ready here."""
    from featcache.cli.listing import print_corpora

    print_corpora(name)


@app.command(epilog="Example: featcache models")
def models() -> None:
    """The models that have short names, their size, and which of them are on this machine."""
    from featcache.cli.listing import print_models

    print_models()


@app.command(epilog="Example: featcache extract --model wav2vec2-base --data path/to/emodb")
def extract(
    model: Annotated[
        str | None,
        typer.Option(
            help="Short name (see 'featcache models'), Hugging Face id, folder, egemaps, egemaps-functionals or "
            "spectrogram; wav2vec2-base by default."
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            help="In place of --model: an encoder of text, such as tinybert, that reads the transcripts. Every token "
            "is a frame, special ones included. No audio is read, and no eGeMAPS are computed."
        ),
    ] = None,
    transcripts: Annotated[
        str | None, typer.Option(help="For --text: those of a machine ('featcache transcribe'), by their name.")
    ] = None,
    corpus: Annotated[str | None, typer.Option(help="Name under data/corpora, where there are several.")] = None,
    data: Annotated[Path | None, typer.Option(help="The corpus's folder, or a manifest.csv, elsewhere.")] = None,
    egemaps: Annotated[bool, typer.Option(help="Fill the store 'egemaps' as well.")] = True,
    name: Annotated[str | None, typer.Option(help="Name of the store, if not the model's.")] = None,
    store: Annotated[Storage | None, typer.Option(help="How models' features are stored; float16 by default.")] = None,
    pool: Annotated[
        bool, typer.Option("--pool", help="Keep each utterance's mean, deviation and maximum alone, no frames.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many utterances, from all over.")] = None,
    device: Annotated[
        str,
        typer.Option(
            help="cpu, cuda, cuda:1, mps, …; several share the work: cuda:0,cuda:1; auto: CUDA, else mps, else the CPU."
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; one per core by default, for several devices more.")
    ] = None,
    batch_seconds: Annotated[
        float | None, typer.Option(min=0, help="Seconds of audio per forward pass. Changes no number.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first utterance that fails.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; write nothing.")] = False,
    shard_index: Annotated[int, typer.Option(min=0, help="Which part to do, from 0 on, as in a Slurm array.")] = 0,
    num_shards: Annotated[int, typer.Option(min=1, help="How many parts there are.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(
            help="Address of a Dask scheduler, tcp://host:8786, whose workers do the work. They have featcache too, "
            f"and see corpus, cache and model folders under the same paths. {TRUST}"
        ),
    ] = None,
    weights: Annotated[Weights | None, typer.Option(help="random: untrained, offline, a control.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hugging Face hub.")] = None,
    num_blocks: Annotated[
        int | None, typer.Option(help="Only so many transformer blocks, the first: 12 of a large model's 24.")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="all, local, last, or a list such as 0,4-8,input.")] = None,
    do_normalize: Annotated[
        bool | None, typer.Option(help="Normalise waveforms; by default as the checkpoint says.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(min=0, help="Use only so much of each utterance, from its beginning.")
    ] = None,
    chunk_seconds: Annotated[
        float | None,
        typer.Option(
            min=0, help="Compute longer utterances in windows of so much, in bounded memory. Changes numbers."
        ),
    ] = None,
    overlap_seconds: Annotated[float | None, typer.Option(min=0, help="Of these windows; 2 by default.")] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="What models compute in; float32 by default, bfloat16 is faster.")
    ] = None,
    sampling_rate: Annotated[
        int | None, typer.Option(min=0, help="In Hz, for descriptors; 0 for the files' own.")
    ] = None,
    channel: Annotated[Channel | None, typer.Option(help="How descriptors mix several channels.")] = None,
    window: Annotated[str | None, typer.Option(help="Of the spectrogram: 25ms, or 400samples.")] = None,
    hop: Annotated[str | None, typer.Option(help="Of the spectrogram: 10ms, or 320samples.")] = None,
    n_fft: Annotated[int | None, typer.Option(min=2, help="Of the spectrogram, in samples.")] = None,
    center: Annotated[bool | None, typer.Option(help="Whether spectrogram frames are centred.")] = None,
) -> None:
    """Run a frozen model over a corpus and keep every layer. A second call goes on where the first ended."""
    from featcache.extraction import extract as run
    from featcache.extraction import summarise_report
    from featcache.extraction.summary import summarise_dry_run

    report = run(
        model=model,
        text=text,
        transcripts=transcripts,
        corpus=corpus,
        data=data,
        egemaps=egemaps,
        name=name,
        store=store.value if store else None,
        pool=pool,
        limit=limit,
        device=device,
        workers=workers,
        batch_seconds=batch_seconds,
        strict=strict,
        dry_run=dry_run,
        shard_index=shard_index,
        num_shards=num_shards,
        scheduler=scheduler,
        weights=weights.value if weights else None,
        revision=revision,
        num_blocks=num_blocks,
        layers=layers,
        do_normalize=do_normalize,
        max_seconds=max_seconds,
        chunk_seconds=chunk_seconds,
        overlap_seconds=overlap_seconds,
        precision=precision.value if precision else None,
        sampling_rate=sampling_rate,
        channel=channel.value if channel else None,
        window=window,
        hop=hop,
        n_fft=n_fft,
        center=center,
    )
    if dry_run:
        if report.failures:
            print(summarise_dry_run(report.num_utterances, report.failures))
    else:
        print(summarise_report(report))
    _end(report.interrupted, len(report.failures))


@app.command(epilog="Example: featcache transcribe --model whisper-tiny --data path/to/meld")
def transcribe(
    model: Annotated[
        str, typer.Option(help="Short name of a Whisper (see 'featcache models'), Hugging Face id or folder.")
    ] = "whisper-tiny",
    corpus: Annotated[str | None, typer.Option(help="Name under data/corpora, where there are several.")] = None,
    data: Annotated[Path | None, typer.Option(help="The corpus's folder, or a manifest.csv, elsewhere.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the transcripts, if not the model's.")] = None,
    language: Annotated[
        str | None, typer.Option(help="Code or English name, as de or german; by default Whisper finds out.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many utterances, from all over.")] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, mps, …; auto: CUDA, else mps, else the CPU.")
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads; one per core by default. Changes no word.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first utterance that fails.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Do everything anew, also what was made with other settings.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; write nothing.")] = False,
    weights: Annotated[Weights | None, typer.Option(help="Untrained models know no words: random is refused.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hugging Face hub.")] = None,
) -> None:
    """Have Whisper write down a corpus, beside the human transcripts, and tell the word error rate.

    A second call goes on where the first ended. Nothing is sampled: the same audio gives the same words. What is longer
    than 30 s is done window after window, as Whisper's authors do it; nothing is cut.
    """
    from featcache.extraction.summary import summarise_dry_run
    from featcache.transcription import summarise
    from featcache.transcription import transcribe as run

    report = run(
        model=model,
        corpus=corpus,
        data=data,
        name=name,
        language=language,
        limit=limit,
        device=device,
        workers=workers,
        strict=strict,
        overwrite=overwrite,
        dry_run=dry_run,
        weights=weights.value if weights else None,
        revision=revision,
    )
    if dry_run:
        if report.failures:
            print(summarise_dry_run(report.num_utterances, report.failures))
    else:
        print(summarise(report))
    _end(report.interrupted, len(report.failures))


@app.command(epilog="Example: featcache info data/cache/emodb/wav2vec2-base")
def info(
    path: Annotated[
        Path | None,
        typer.Argument(help="Path or name of a store, cache, run or transcripts [default: the only cache]."),
    ] = None,
) -> None:
    """Show what a store, cache, run or transcripts hold, and what made them."""
    from featcache.cli.info import print_info

    print_info(path)


@app.command(epilog="Example: featcache verify data/cache/emodb/wav2vec2-base --data path/to/emodb")
def verify(
    store: Annotated[Path, typer.Argument(help="The store.")],
    data: Annotated[Path | None, typer.Option(help="The corpus's folder, if not under data/corpora.")] = None,
    recompute: Annotated[int, typer.Option(min=0, help="Utterances to compute anew, alone.")] = 4,
    model: Annotated[str | None, typer.Option(help="Where the model is, if it was a folder.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, … or auto.")] = "cpu",
) -> None:
    """Check every byte of a store, and compare some utterances, computed anew, with what is stored."""
    from featcache.cli.listing import print_verification

    print_verification(store, data=data, number=recompute, model=model, device=device)


@app.command(epilog="Example: featcache merge merged/egemaps part-0/egemaps part-1/egemaps")
def merge(
    into: Annotated[Path, typer.Argument(help="The store to be filled; made when missing.")],
    parts: Annotated[list[Path], typer.Argument(help="Stores of the same settings; they are only read.")],
) -> None:
    """Make one store of parts that were extracted into folders apart, for instance on machines without a shared disk.

    What INTO has stays, and among the parts the first one counts; the same utterance from other audio is refused. A
    cache without a manifest gets the parts'.
    """
    from featcache.cli.listing import print_merge

    print_merge(into, parts)


@app.command(epilog="Example: featcache fit --head dense,lstm --norm speaker,global")
def fit(
    head: Annotated[
        str, typer.Option(help="dense, lstm, fusion, linear, ffn, svm; several, separated by commas.")
    ] = "dense",
    norm: Annotated[
        str, typer.Option(help="Whose statistics normalise: speaker (transductive), global, none; or several.")
    ] = "speaker",
    features: Annotated[str | None, typer.Option(help="Names of stores, separated by commas.")] = None,
    layers: Annotated[str, typer.Option(help="all, local, last, or several of them; or a list such as 0,4-8.")] = "all",
    pooling: Annotated[
        str | None,
        typer.Option(
            help="mean, sum, max or mean+max of an utterance's frames; mean by default for linear and svm, mean+max "
            "for ffn on single layers."
        ),
    ] = None,
    scalar_norm: Annotated[
        bool, typer.Option("--scalar-norm", help="One mean and deviation for all dimensions, as for spectrograms.")
    ] = False,
    norm_by: Annotated[
        str, typer.Option(help="What --norm speaker takes for the speaker: a label such as dialogue_half.")
    ] = "speaker_id",
    layer_weighting: Annotated[
        LayerWeighting, typer.Option(help="How layer weights are made to sum to 1.")
    ] = LayerWeighting.abs,
    corpus: Corpus = None,
    protocol: Annotated[str | None, typer.Option(help="Name of a protocol, see 'featcache corpora'.")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The label to predict; LABEL=CLASS against all others; arousal,valence: numbers, together."),
    ] = None,
    task: Annotated[TaskOption | None, typer.Option(help="Where the label does not tell.")] = None,
    label_range: Annotated[
        str | None, typer.Option(help="What numbers lie between, as in 1,7; by default as the corpus says.")
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Only utterances with these labels: vocal_channel=speech.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    max_frames: Annotated[
        int | None, typer.Option(min=0, help="Frames used of each utterance; 0 for all, by default the corpus's.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(min=0, help="Of Adam; 1e-4 by default.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Utterances; 32, for lstm 16.")] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="100 by default.")] = None,
    patience: Annotated[int | None, typer.Option(min=1, help="Epochs without improvement; 4 by default.")] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="What may be taken (4GiB), how features are held (float32, float16, bfloat16, int8), or both."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, … or auto.")] = "cpu",
    jobs: Annotated[int, typer.Option(min=1, help="Processes that share the folds and the cores.")] = 1,
    scheduler: Annotated[
        str | None,
        typer.Option(help=f"tcp://host:8786 of a Dask cluster, whose workers share the folds. {TRUST}"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run folder, for a single run.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with what was interrupted.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Train again although the run is there.")] = False,
) -> None:
    """Train heads on cached features, over all folds and seeds, and print the table.

    Every combination of heads, normalisations and layers is a run; runs that can read the features together do.
    """
    from featcache.fitting.fit import first_seeds, sweep

    training = {
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_epochs": max_epochs,
        "patience": patience,
    }
    runs = sweep(
        heads=head.split(","),
        norms=norm.split(","),
        layers=_layer_settings(layers),
        features=features.split(",") if features else None,
        layer_weighting=layer_weighting.value,
        pooling=pooling,
        scalar_norm=scalar_norm,
        norm_by=norm_by,
        corpus=corpus,
        protocol=protocol,
        target=target,
        task=task.value if task else None,
        label_range=_bounds(label_range),
        select=_selection(select or []),
        seeds=first_seeds(seeds),
        max_frames=max_frames,
        training={key: value for key, value in training.items() if value is not None},
        memory=memory,
        device=device,
        jobs=jobs,
        scheduler=scheduler,
        name=name,
        resume=resume,
        overwrite=overwrite,
    )
    from featcache.cli.listing import print_runs

    print_runs(runs)
    print()
    for run in runs:
        print(escaped(str(run.path)))


@app.command(epilog="Example: featcache run egemaps-baselines --data path/to/emodb")
def run(
    pipeline: Annotated[
        str | None, typer.Argument(help="A YAML file, or the name of one that is listed without it.")
    ] = None,
    corpus: Corpus = None,
    data: Annotated[Path | None, typer.Option(help="The corpus's folder, if not under data/corpora.")] = None,
    only: Annotated[str | None, typer.Option(help="Names of runs, separated by commas.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only so many utterances, from all over.")] = None,
    weights: Annotated[Weights | None, typer.Option(help="random: untrained models, offline, a control.")] = None,
    protocol: Annotated[str | None, typer.Option(help="In place of the pipeline's, for part of a corpus.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many, if not as the pipeline says.")] = None,
    max_epochs: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, … or auto.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done; write nothing.")] = False,
) -> None:
    """Do a published experiment from audio to table, the paper's numbers beside ours; what is there is not done again.

    --limit, --weights, --protocol, --seeds and --max-epochs make it a trial, and every row of the table says so.
    """
    from featcache.cli.pipelines import print_pipelines, run_and_print

    if pipeline is None:
        print_pipelines()
        return
    outcome = run_and_print(
        pipeline=pipeline,
        corpus=corpus,
        data=data,
        only=only.split(",") if only else None,
        limit=limit,
        weights=weights.value if weights else None,
        protocol=protocol,
        seeds=seeds,
        max_epochs=max_epochs,
        device=device,
        dry_run=dry_run,
    )
    _end(outcome.interrupted, outcome.num_failures)


@app.command(epilog="Example: featcache layers --per-target --target arousal,valence")
def layers(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Run folders or names, by default the newest with layer weights; with --probe or --per-target, stores."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe", help="From the cache: a linear model on each layer's utterance means.")
    ] = False,
    per_target: Annotated[
        bool, typer.Option("--per-target", help="Train a head on each dimension or class alone, and probe each layer.")
    ] = False,
    corpus: Corpus = None,
    protocol: Annotated[
        str | None, typer.Option(help="Of both: name of a protocol; by default that of 'featcache fit'.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Of both: what to predict; --per-target takes the corpus's dimensions first.")
    ] = None,
    task: Annotated[TaskOption | None, typer.Option(help="Of both: where the label does not tell.")] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Of both: only utterances with these labels: vocal_channel=speech.")
    ] = None,
    head: Annotated[str | None, typer.Option(help="Of --per-target; dense by default.")] = None,
    norm: Annotated[str | None, typer.Option(help="Of --per-target; speaker by default.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Of --per-target: how many; 5 by default.")] = None,
    device: Annotated[str | None, typer.Option(help="Of --per-target: cpu, by default, cuda, mps, … or auto.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write, without suffix.")] = None,
) -> None:
    """Draw layer importance: the learned weights of runs, how well each layer does alone, or both for each target.

    With --per-target, runs that are there are not trained again, and interrupted ones go on.
    """
    from featcache.cli import layers as layerwise

    chosen: dict[str, Any] = {
        "protocol": protocol,
        "target": target,
        "task": task.value if task else None,
        "select": _selection(select or []),
    }
    training: dict[str, Any] = {"head": head, "norm": norm, "seeds": seeds, "device": device}
    if probe and per_target:
        raise typer.BadParameter("--per-target probes as well; leave --probe out", param_hint="--probe")
    if any(chosen.values()) and not (probe or per_target):
        hint = ", ".join(f"--{name}" for name in chosen)
        raise typer.BadParameter("they are for --probe and --per-target; a run has its own", param_hint=hint)
    if any(training.values()) and not per_target:
        raise typer.BadParameter("they are for --per-target", param_hint=", ".join(f"--{name}" for name in training))
    if probe:
        layerwise.print_layer_scores(names or [], corpus=corpus, out=out, **chosen)
    elif per_target:
        from featcache.fitting.fit import first_seeds

        training["seeds"] = first_seeds(seeds) if seeds else None
        training = {key: value for key, value in training.items() if value is not None}
        layerwise.print_layer_relevance(names or [], corpus=corpus, out=out, **chosen, **training)
    else:
        layerwise.print_layer_weights(names or [], corpus=corpus, out=out)


@app.command(epilog="Example: featcache score predictions.csv --speaker actor")
def score(
    predictions: Annotated[Path, typer.Argument(help="A CSV table with a row per tested utterance.")],
    target: Annotated[str | None, typer.Option(help="Column of the true labels, if not 'target'.")] = None,
    prediction: Annotated[str | None, typer.Option(help="Column of the predicted ones, if not 'prediction'.")] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column that names the utterances, if not 'utterance_id'.")
    ] = None,
    speaker: Annotated[str | None, typer.Option(help="Column of the speakers, if not 'speaker_id'.")] = None,
    seed: Annotated[str | None, typer.Option(help="Column of the seeds, if not 'seed'; may be absent.")] = None,
    fold: Annotated[str | None, typer.Option(help="Column of the folds, if not 'fold'; may be absent.")] = None,
    classes: Annotated[
        str | None, typer.Option(help="All labels, in the order of the tables, separated by commas.")
    ] = None,
    task: Annotated[
        TaskOption | None, typer.Option(help="By default regression where there are columns target_<dimension>.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write all numbers, as metrics.json.")] = None,
) -> None:
    """Score anybody's predictions: means over seeds, and intervals over speakers and seeds."""
    from featcache.cli.scores import print_score

    columns = {
        "target": target,
        "prediction": prediction,
        "utterance_id": id_column,
        "speaker_id": speaker,
        "seed": seed,
        "fold": fold,
    }
    print_score(
        predictions,
        columns={role: name for role, name in columns.items() if name},
        classes=classes.split(",") if classes else None,
        task=task.value if task else None,
        out=out,
    )


@app.command(epilog="Example: featcache compare wav2vec2-run egemaps-run")
def compare(
    runs: Annotated[list[str], typer.Argument(help="Two or more run folders or names that tested the same.")],
    out: Annotated[Path | None, typer.Option(help="CSV file to write the table to.")] = None,
) -> None:
    """Tell runs apart, pair by pair: difference, interval, tests over speakers and utterances, size of the effect."""
    from featcache.cli.comparison import print_comparison

    print_comparison(runs, out=out)


@app.command(epilog="Example: featcache ensemble run-a run-b run-c --vote hard")
def ensemble(
    runs: Annotated[list[str], typer.Argument(help="Two or more run folders or names.")],
    size: Annotated[
        str | None, typer.Option(help="How many vote together, separated by commas; 3,5 by default.")
    ] = None,
    vote: Annotated[str, typer.Option(help="hard (majority), soft (mean probability), or both.")] = "hard,soft",
    name: Annotated[str | None, typer.Option(help="Name of the ensemble's folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a folder of that name.")] = False,
) -> None:
    """Let combinations of runs vote; the one that is best on validation becomes a run of its own."""
    from featcache.cli.scores import print_ensemble
    from featcache.fitting.ensemble import ensemble as run

    finished = run(runs=runs, sizes=_sizes(size), votes=vote.split(","), name=name, overwrite=overwrite)
    print_ensemble(finished)
    print(f"\n{escaped(str(finished.path))}")


def _end(interrupted: bool, num_failures: int) -> None:
    """End with the code of what came to less than was asked for."""
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if num_failures:
        raise typer.Exit(FINISHED_WITH_FAILURES)


def _sizes(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected numbers, as in 3,5", param_hint="--size") from None


def _bounds(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(word) for word in text.split(","))
        if not -math.inf < low < high < math.inf:
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected two numbers, as in 1,7", param_hint="--label-range") from None
    return low, high


def _layer_settings(option: str) -> list[str]:
    """``all,last`` are two settings, ``0,4-8`` is one."""
    parts = option.split(",")
    return parts if set(parts) <= {"all", "local", "last"} else [option]


def _selection(pairs: list[str]) -> dict[str, list[str]]:
    selection: dict[str, list[str]] = {}
    for pair in pairs:
        column, separator, values = pair.partition("=")
        if not separator:
            raise typer.BadParameter(f"{pair!r}: expected LABEL=VALUE, or LABEL=VALUE,VALUE", param_hint="--select")
        selection.setdefault(column, []).extend(values.split(","))
    return selection
