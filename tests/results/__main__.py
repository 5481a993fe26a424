"""Results on real speech: ``make results CORPORA=… MODELS=…``, or ``python -m tests.results CORPORA MODELS``."""

import argparse
import math
import time
from pathlib import Path

from tests.results.commands import ordered, present
from tests.results.page import DOCS, write_page
from tests.results.record import Record, prepare


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.results",
        description="Run the commands of docs/results.md that have not succeeded yet, and write the page.",
    )
    parser.add_argument("corpora", type=Path, help="folder with emodb-2s and ravdess-4actors")
    parser.add_argument("models", type=Path, help="folder with whisper-base and whisper-tiny.en")
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for stores, runs and record.json")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin no command later; 0 writes only the page"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="run only commands that contain this text")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds; svm and linear have 5 [default: 5]")
    parser.add_argument("--max-epochs", type=int, default=100, help="maximum number of epochs [default: 100]")
    parser.add_argument("--note", default="", help="conditions that affect the times, for the page")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder in which results.md is written [default: docs]")
    arguments = parser.parse_args()

    cases = prepare(arguments.out, arguments.corpora, arguments.models)
    record = Record(arguments.out)
    commands = ordered(cases, seeds=arguments.seeds, max_epochs=arguments.max_epochs)
    end = time.monotonic() + 60 * arguments.minutes
    try:
        for command in commands:
            if time.monotonic() < end and arguments.only in str(command) and present(command, arguments.out):
                record.run(command)
    finally:  # Ctrl-C keeps what is done: the page shows the rest as not run
        write_page(arguments.docs, arguments.out, cases, commands, record, note=arguments.note)


if __name__ == "__main__":
    main()
