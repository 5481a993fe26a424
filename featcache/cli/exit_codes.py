"""Exit codes of the commands, besides 0 for success."""

import typer

USER_ERROR = 1
WRONG_USAGE = 2
FINISHED_WITH_FAILURES = 3
INTERRUPTED = 130


def end(*, interrupted: bool, num_failures: int) -> None:
    """End the command with the exit code for interrupted or incomplete work.

    Args:
        interrupted: Whether Ctrl-C ended the work early.
        num_failures: Number of failed utterances.

    Raises:
        Exit: The work was interrupted, or utterances failed.
    """
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if num_failures:
        raise typer.Exit(FINISHED_WITH_FAILURES)
