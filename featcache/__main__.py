"""Program ``featcache`` → command line. Ctrl-C ends it with one line, even while Python is still importing."""

import os
import sys

INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit immediately after Ctrl-C."""
    try:
        from featcache.cli.app import main as run

        run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except SystemExit as ended:
        if ended.code != INTERRUPTED:
            raise
    # A normal exit takes seconds, because Python waits for abandoned threads and unloads torch.
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
