"""The exit codes of the commands, beside 0 for what is done."""

import typer

USER_ERROR = 1
WRONG_USAGE = 2
FINISHED_WITH_FAILURES = 3
INTERRUPTED = 130


def end(*, interrupted: bool, num_failures: int) -> None:
    """End the command with the code of what came to less than was asked for.

    Args:
        interrupted: Whether Ctrl-C ended it early.
        num_failures: How many utterances failed.

    Raises:
        Exit: interrupted, or with failures.
    """
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if num_failures:
        raise typer.Exit(FINISHED_WITH_FAILURES)
