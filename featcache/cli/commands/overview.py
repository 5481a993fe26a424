"""Nothing yet → a first look: the demo, and what is known and ready here."""

from pathlib import Path

from featcache.cli import options


def demo(folder: options.DemoFolder = Path("featcache-demo")) -> None:
    """The whole main job on synthetic speech, offline, in two minutes."""
    from featcache.cli.demo import run_demo

    run_demo(folder)


def corpora(name: options.CorpusName = None) -> None:
    """The corpora that are known, their protocols, and what lies ready here."""
    from featcache.cli.listing import print_corpora

    print_corpora(name)


def models() -> None:
    """The models that have short names, their size, and which of them are on this machine."""
    from featcache.cli.listing import print_models

    print_models()
