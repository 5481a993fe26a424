"""The commands for a first look: the demo, the lists of corpora and models, and their download."""

import logging
from pathlib import Path
from typing import Any

from featcache.cli import options
from featcache.cli.exit_codes import end
from featcache.cli.from_settings import command_of
from featcache.settings.fetches import FetchSettings


def demo(folder: options.DemoFolder = Path("featcache-demo")) -> None:
    """Run all main steps on synthetic speech, offline, in two minutes.

    The steps are: make a corpus, extract features, fit heads, and draw layer weights.
    """
    from featcache.cli.demo import run_demo

    run_demo(folder)


def corpora(name: options.CorpusName = None) -> None:
    """List corpora: first those available here, then all known ones.

    With NAME, show the classes, licence and protocols of one corpus.
    """
    from featcache.cli.listing import print_corpora

    print_corpora(name)


def new_corpus(folder: options.CorpusFolder, name: options.NewName = None, out: options.DescriptionFile = None) -> None:
    """Draft the description of a corpus from the names of its audio files, and show what it reads.

    The draft is a YAML file for you to correct. In data/descriptions, it makes the corpus known under its name.
    """
    from featcache.cli.new_corpus import print_new_corpus

    print_new_corpus(folder, name, out)


def models(name: options.ModelName = None) -> None:
    """List models with short names, their size, and whether they are available here.

    With NAME, show one model in full. Any other model on the Hugging Face hub can be used by its id.
    """
    from featcache.cli.model_list import print_model, print_models

    if name is None:
        print_models()
    else:
        print_model(name)


@command_of(FetchSettings)
def fetch(given: dict[str, Any], names: options.FetchedNames) -> None:
    """Download a corpus, or what later work with a model needs, without a network.

    The size, licence and address are printed first, and the folder at the end. The same command continues an
    interrupted download. A corpus is unpacked into data/corpora, if its authors let anybody download it. 'featcache
    corpora' lists these corpora. Converted models are written to data/models, where they are found by their names. If
    a corpus and a model have the same name, the corpus is downloaded.
    """
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    from featcache.cli.model_list import print_fetched
    from featcache.fetching import fetch as run

    if not logging.getLogger("featcache").isEnabledFor(logging.INFO):  # featcache --quiet
        disable_progress_bars()
    report = run(names, **given)
    print_fetched(report)
    end(interrupted=False, num_failures=len(report.failures))
