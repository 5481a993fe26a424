"""Command line → commands, in the order of the data flow, and their exit codes."""

import logging
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_name

from featcache._version import __version__
from featcache.cli.commands.features import extract, import_features, info, merge, transcribe, verify
from featcache.cli.commands.layer_importance import LayersCommand, layers, probe, relevance
from featcache.cli.commands.overview import corpora, demo, fetch, models, new_corpus
from featcache.cli.commands.pages import check, report
from featcache.cli.commands.prediction import predict
from featcache.cli.commands.results import compare, ensemble, score
from featcache.cli.commands.sharing import publish
from featcache.cli.commands.tables import runs, table, track
from featcache.cli.commands.training import finetune, fit, run
from featcache.cli.exit_codes import INTERRUPTED, USER_ERROR, WRONG_USAGE
from featcache.cli.parsing import read_choice
from featcache.cli.usage import Command, UsageError, told_usage, unknown_command
from featcache.errors import FeatcacheError
from featcache.files.disk import is_told, refused
from featcache.report.figure_width import VARIABLE, WIDTHS, chosen_width
from featcache.terminal.escape import one_line
from featcache.terminal.interrupts import INTERRUPTED_LINE, leaving_imports, threads_are_left
from featcache.terminal.lines import print_error
from featcache.terminal.streams import lasting_streams, log_to_terminal


class _Commands(TyperGroup):
    """All commands of featcache."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            print_error(f"interrupted; {error}" if error.args else INTERRUPTED_LINE)
            raise typer.Exit(INTERRUPTED) from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        known = self.list_commands(ctx)
        if args[0] not in known and not ctx.resilient_parsing:
            raise UsageError(unknown_command(args[0], known), ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the first sentence about each command, uncut, in groups whose columns are aligned."""
        width = max(map(len, self.list_commands(ctx)))
        for title, examples in _EXAMPLES.items():
            commands = [self.commands[get_command_name(one.__name__)] for one in examples]
            rows = [((one.name or "").ljust(width), _first_sentence(one.help or "")) for one in commands]
            with formatter.section(title):
                formatter.write_dl(rows)


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0].removesuffix(".") + "."


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Run a frozen speech model once, cache every layer, and compare emotion recognition heads in seconds.",
    epilog="Example: featcache demo",
    subcommand_metavar="COMMAND [ARGUMENTS]",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"featcache {__version__}")
        raise typer.Exit


@app.callback()
def _start(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only results, warnings and errors.")] = False,
    figure_width: Annotated[
        str | None,
        typer.Option(
            metavar="single|double",
            help="Width of all figures: one column of a paper (3.4 inches) or two (7 inches) [default: "
            f"${VARIABLE}, otherwise what the content needs].",
        ),
    ] = None,
) -> None:
    log_to_terminal(logging.WARNING if quiet else logging.INFO)
    if figure_width is not None:
        _set_until_the_end(ctx, VARIABLE, read_choice("--figure-width", figure_width, list(WIDTHS)))
    chosen_width()  # an error now, and not after hours of training


def _set_until_the_end(ctx: typer.Context, variable: str, value: str) -> None:
    """Set an environment variable for this command and its processes."""
    before = os.environ.get(variable)
    os.environ[variable] = value
    ctx.call_on_close(lambda: os.environ.pop(variable) if before is None else os.environ.update({variable: before}))


# The groups of the help page; each command, and the example at the end of its own help page.
_EXAMPLES: dict[str, dict[Any, str]] = {
    "Start": {
        demo: "demo",
        corpora: "corpora ravdess",
        new_corpus: "new-corpus path/to/corpus",
        models: "models wavlm-large",
        fetch: "fetch emodb ravdess wavlm-large",
    },
    "Features": {
        check: "check emodb",
        extract: "extract --model wav2vec2-base --data path/to/emodb",
        transcribe: "transcribe --model whisper-tiny --data path/to/meld",
        import_features: "import-features FOLDER --name mine --frame-shift 0.02",
        info: "info data/cache/emodb/wav2vec2-base",
        verify: "verify data/cache/emodb/wav2vec2-base --recompute 10",
        merge: "merge merged/egemaps part-0/egemaps part-1/egemaps",
    },
    "Training and prediction": {
        fit: "fit --head dense,lstm --norm speaker,global",
        finetune: "finetune --from-layer 8 --head ffn",
        run: "run egemaps-baselines --data path/to/emodb",
        predict: "predict wav2vec2-run x.wav --one-speaker",
    },
    "Layers": {
        layers: "layers wav2vec2-run --out figures/weights",
        probe: "probe wav2vec2-base --target emotion",
        relevance: "relevance wav2vec2-base --target arousal,valence",
    },
    "Results": {
        runs: "runs emodb",
        report: "report emodb",
        table: "table 'emodb/*' --rows head --columns norm --format latex",
        compare: "compare wav2vec2-run egemaps-run",
        score: "score predictions.csv --speaker actor",
        ensemble: "ensemble run-a run-b run-c --vote hard",
    },
    "For others": {
        publish: "publish wav2vec2-run shared --license cc-by-nc-4.0",
        track: "track 'emodb/*' --to tensorboard",
    },
}
for _command, _example in [pair for group in _EXAMPLES.values() for pair in group.items()]:
    app.command(epilog=f"Example: featcache {_example}", cls=LayersCommand if _command is layers else Command)(_command)


def main() -> None:
    """Run the command line; report a mistake of the user in one line."""
    with lasting_streams() as lost, leaving_imports(INTERRUPTED):
        code = _exit_code()
    if lost and not code:
        print_error(f"error: standard output could not be written ({lost[0]}); files are complete")
        code = USER_ERROR
    if code == INTERRUPTED and threads_are_left():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _exit_code() -> int | str | None:
    try:
        code: int | None = app(prog_name="featcache", standalone_mode=False)
    except UsageError as error:
        return _told_usage(error)
    except FeatcacheError as error:
        return _told(error)
    except OSError as error:
        if not is_told(error):
            raise
        return _told(refused(error.filename or "a file", error, "read or written"))
    except typer.Abort:
        print_error(INTERRUPTED_LINE)
        return INTERRUPTED
    except SystemExit as ended:
        return ended.code
    return code or 0


def _told_usage(error: Any) -> int:
    """Print what is wrong with a call, below the usage line of the command; without any arguments, print the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return WRONG_USAGE
    if error.ctx is not None:
        print(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.", file=sys.stderr)
    print_error(f"error: {one_line(told_usage(error))}")
    return WRONG_USAGE


def _told(error: FeatcacheError) -> int:
    print_error(f"error: {one_line(str(error))}")
    return USER_ERROR
