"""The program ``featcache`` → the command line, which Ctrl-C ends in one line, also while Python still imports it."""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit at once when Ctrl-C ended it."""
    try:
        from featcache.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
    # Python would take seconds to end: it waits for threads that were given up, and unloads torch
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
