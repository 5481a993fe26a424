"""``make bench``: prints the page. ``python -m tests.benchmarks --data FOLDER`` takes a corpus of your own."""

import argparse
import tempfile
from pathlib import Path

from featcache.corpora.synthetic import make_corpus
from tests.benchmarks.page import measure, to_page
from tests.benchmarks.table import conditions


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--data", type=Path, help="a corpus; by default 64 utterances of synthetic speech")
    parser.add_argument("--model", default="wav2vec2-base", help="a name or a folder; built untrained")
    parser.add_argument("--out", type=Path, help="where to write the page as well, such as docs/benchmarks.md")
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


if __name__ == "__main__":  # processes of their own import this module again
    main()
