"""The command line: one file per noun.

Exit codes: 0 promoted or fine, 1 unexpected, 2 usage or invalid input, 3 gate failed, 4 rolled
back, 5 unavailable or unauthorized, 6 not found, 7 conflict, 8 damaged, 9 storage failed,
10 rollout aborted or failed, 130 interrupted. `fairlead.domain.errors` and `ship` assign them.
"""

from __future__ import annotations

import sys

from fairlead.domain.errors import FairleadError

INTERRUPTED = 130


def main() -> None:
    """Entry point of the `fairlead` command."""
    try:
        from fairlead.cli.root import app

        app(prog_name="fairlead")
    except FairleadError as error:
        from fairlead.cli.options import say, stderr

        say(("error:", "bold red"), f" {error.message}", to=stderr, whole=True)
        if error.hint:
            say((f"  {error.hint}", "dim"), to=stderr, whole=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has left (`fairlead records | head`): nothing more to say.
        sys.stderr.close()
        sys.exit(0)
