"""The commands for a first look: the demo, and the lists of corpora and models."""

from pathlib import Path

from featcache.cli import options


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


def models() -> None:
    """List models with short names, their size, and whether they are available here.

    Any other model on the Hugging Face hub can be used by its id.
    """
    from featcache.cli.listing import print_models

    print_models()
