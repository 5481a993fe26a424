"""Command line → commands, in the order of the data flow, and the exit code of what came of them."""

import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from featcache._version import __version__
from featcache.cli.commands.features import extract, import_features, info, merge, transcribe, verify
from featcache.cli.commands.layer_importance import LayersCommand, layers, probe, relevance
from featcache.cli.commands.overview import corpora, demo, models
from featcache.cli.commands.results import compare, ensemble, score
from featcache.cli.commands.training import fit, run
from featcache.cli.exit_codes import INTERRUPTED, USER_ERROR
from featcache.errors import FeatcacheError
from featcache.files.disk import is_told, refused
from featcache.terminal.escape import one_line
from featcache.terminal.interrupts import INTERRUPTED_LINE, leaving_imports, threads_are_left
from featcache.terminal.streams import lasting_streams, log_to_terminal


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


app.command(epilog="Example: featcache demo")(demo)
app.command(epilog="Example: featcache corpora ravdess")(corpora)
app.command(epilog="Example: featcache models")(models)
app.command(epilog="Example: featcache extract --model wav2vec2-base --data path/to/emodb")(extract)
app.command(epilog="Example: featcache transcribe --model whisper-tiny --data path/to/meld")(transcribe)
app.command(epilog="Example: featcache import-features FOLDER --name mine --frame-shift 0.02")(import_features)
app.command(epilog="Example: featcache info data/cache/emodb/wav2vec2-base")(info)
app.command(epilog="Example: featcache verify data/cache/emodb/wav2vec2-base --data path/to/emodb")(verify)
app.command(epilog="Example: featcache merge merged/egemaps part-0/egemaps part-1/egemaps")(merge)
app.command(epilog="Example: featcache fit --head dense,lstm --norm speaker,global")(fit)
app.command(epilog="Example: featcache run egemaps-baselines --data path/to/emodb")(run)
app.command(epilog="Example: featcache layers wav2vec2-run --out figures/weights", cls=LayersCommand)(layers)
app.command(epilog="Example: featcache probe wav2vec2-base --target emotion")(probe)
app.command(epilog="Example: featcache relevance wav2vec2-base --target arousal,valence")(relevance)
app.command(epilog="Example: featcache score predictions.csv --speaker actor")(score)
app.command(epilog="Example: featcache compare wav2vec2-run egemaps-run")(compare)
app.command(epilog="Example: featcache ensemble run-a run-b run-c --vote hard")(ensemble)


def main() -> None:
    """Run the command line; a user's mistake is told in one line and exits with 1."""
    with lasting_streams() as lost, leaving_imports(INTERRUPTED):
        code = _exit_code()
    if lost and not code:
        print(f"error: standard output could not be written ({lost[0]}); files are complete", file=sys.stderr)
        code = USER_ERROR
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
    return USER_ERROR
