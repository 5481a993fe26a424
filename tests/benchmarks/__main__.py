"""Benchmarks on the command line: ``make bench`` prints the page; ``python -m tests.benchmarks --help`` has options."""

import argparse
import tempfile
from pathlib import Path

from featcache.corpora.synthetic import make_corpus
from tests.benchmarks.page import measure, to_page
from tests.benchmarks.table import conditions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--data", type=Path, help="folder of a corpus [default: 64 utterances of synthetic speech]")
    parser.add_argument("--model", default="wav2vec2-base", help="name or folder of a model, used with random weights")
    parser.add_argument("--out", type=Path, help="file to which the page is also written, e.g. docs/benchmarks.md")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data, corpus = arguments.data, arguments.data and arguments.data.name
        if data is None:
            data, corpus = folder / "synthetic", "synthetic speech"
            make_corpus(data, repetitions=2)
        results = measure(arguments.model, data, folder)
        page = to_page(results, Path(arguments.model).name, corpus, conditions())
    print(page, end="")
    if arguments.out:
        arguments.out.write_text(page, encoding="utf-8")


if __name__ == "__main__":  # the new processes import this module again
    main()
