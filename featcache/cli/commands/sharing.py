"""Run → a folder that can be shared."""

from typing import Any

from featcache.cli import options
from featcache.cli.from_settings import command_of
from featcache.settings.publications import PublishSettings
from featcache.terminal.escape import escaped


@command_of(PublishSettings)
def publish(given: dict[str, Any], run: options.PublishedRun, folder: options.PublishedFolder) -> None:
    """Write a folder with the heads of a run that can be shared, with a model card.

    The folder has no ids of speakers or utterances, no audio, no code and no paths. Read its README.md and change it
    where needed, then run the same command with --push OWNER/NAME to upload it to the Hugging Face hub.
    """
    from featcache.publishing import publish as write

    print(escaped(str(write(run, folder, **given))))
