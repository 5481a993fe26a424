"""The program ``featcache``. Ctrl-C ends it with one line, also while Python imports modules."""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line, and exit immediately after Ctrl-C."""
    try:
        from featcache.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
    # Without os._exit, Python needs seconds to end: it waits for abandoned threads, and unloads torch.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
