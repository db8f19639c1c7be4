"""The server process of one llama.cpp replica.

It imports the standard library, its settings and xllamacpp, nothing else: every import is paid
once per replica. Its life: load, listen on a loopback port that the system chooses, write the base
URL into the ready file, serve; on SIGTERM answer what is open and exit with 0; exit as well when
the supervisor is gone.

xllamacpp holds the interpreter's lock while it loads and while it shuts down, so no Python code
runs then. Until the model is loaded SIGTERM therefore keeps its default action, the supervisor's
end is noticed after the load, and the process ends by `os._exit`: there is nothing to tear down.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from fairlead.domain.errors import FairleadError
from fairlead.engines.llamacpp.settings import ENGINE, LlamaCppSettings
from fairlead.engines.settings import read_settings
from fairlead.engines.watch import StopWatch, SupervisorGone

DRAIN_S = 10.0
"""Seconds that open requests have to end after SIGTERM."""

SMALL_MODEL_BYTES = 64 * 1024 * 1024
"""Below this size one thread is fastest: a layer is over sooner than threads have met."""

HTTP_THREADS = 128
"""One open connection takes up one thread, also while it is idle (5 s at most). llama.cpp adds
threads when none is free, but in a burst it may put a connection behind an idle one instead, where
it waits up to those 5 s. So there are more than the connections that a gateway opens; an unused
one costs 8 kB."""

ERRORS_ONLY = 1


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """The command line that `fairlead.engines.llamacpp.engine` writes."""
    parser = argparse.ArgumentParser(prog="fairlead.engines.llamacpp", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--alias", required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--ready-file", type=Path, required=True)
    parser.add_argument("--parent", type=int, default=0)
    return parser.parse_args(argv)


def threads_for(settings: LlamaCppSettings, model_bytes: int) -> int:
    """Compute threads: what the settings say, else by the size of the model."""
    if settings.threads:
        return settings.threads
    return 1 if model_bytes < SMALL_MODEL_BYTES else max(1, (os.cpu_count() or 2) // 2)


class Server:
    """The running engine: listens from the end of `__init__` on."""

    def __init__(self, model: Path, alias: str, settings: LlamaCppSettings) -> None:
        import xllamacpp

        self._params = params = xllamacpp.CommonParams()
        params.model.path = str(model)
        params.model_alias = {alias}
        params.n_ctx = settings.context
        params.n_parallel = settings.slots
        params.n_batch = params.n_ubatch = settings.batch
        params.cpuparams.n_threads = threads_for(settings, model.stat().st_size)
        params.embedding = settings.embeddings
        if settings.pooling:
            name = f"LLAMA_POOLING_TYPE_{settings.pooling.upper()}"
            params.pooling_type = xllamacpp.llama_pooling_type[name]
        params.chat_template = settings.chat_template
        # A cache of prompts beside the slots would grow to 8 GiB.
        params.cache_ram_mib = 0
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.n_threads_http = max(HTTP_THREADS, 4 * settings.slots)
        params.endpoint_metrics = True
        # The slots endpoint shows prompts; pages of a browser have no business here.
        params.endpoint_slots = False
        params.ui = False
        params.cors_origins = ""
        params.verbosity = ERRORS_ONLY
        self._server = xllamacpp.Server(params)

    @property
    def base_url(self) -> str:
        """Where it listens: `http://127.0.0.1:<port>`."""
        return str(self._server.listening_address)

    @property
    def open_requests(self) -> int:
        """Requests in work or waiting for a slot."""
        names = ("llamacpp:requests_processing ", "llamacpp:requests_deferred ")
        lines = str(self._server.handle_metrics()).splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(names))

    def drain(self, seconds: float) -> None:
        """Return when no request was open twice in a row, or the time is up."""
        end = time.monotonic() + seconds
        idle = 0
        while idle < 2 and time.monotonic() < end:
            idle = idle + 1 if self.open_requests == 0 else 0
            time.sleep(0.05)


def write_ready(path: Path, base_url: str) -> None:
    """Write the file whole: under another name first."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(base_url + "\n")
    partial.replace(path)


def serve(given: argparse.Namespace) -> None:
    """Run until SIGTERM or until the supervisor is gone.

    Raises:
        FairleadError: the settings or the model cannot be used.
        SupervisorGone: there is no supervisor.
    """
    settings = read_settings(LlamaCppSettings, given.settings, ENGINE)
    watch = StopWatch(given.parent)
    server = Server(given.model, given.alias, settings)
    watch.take_signals()
    watch.check()
    write_ready(given.ready_file, server.base_url)
    watch.wait()
    server.drain(DRAIN_S)


def main(argv: Sequence[str]) -> int:
    """Exit status: 0 after SIGTERM, 1 when it could not start, 3 when the supervisor went."""
    try:
        serve(arguments(argv))
    except SupervisorGone as gone:
        status, message = 3, str(gone)
    except (FairleadError, OSError, RuntimeError) as error:
        status, message = 1, f"llama.cpp replica cannot start: {error}"
    else:
        return 0
    sys.stderr.write(message + "\n")
    return status


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
