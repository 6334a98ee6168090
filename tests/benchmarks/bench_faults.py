"""What comes of faults of a network, on every way to a server: a table in Markdown.

Run it as ``python tests/benchmarks/bench_faults.py``. A loopback server fails as each line says
while an image of four chunks is read, whose first chunk it happens to; the package retries as it
does for users, with all its pauses, so that this takes some minutes. A cell tells what came, of how
many requests for that chunk that were answered or broken off, and after how many seconds.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from servers import CountingServer
from unreliable import BACKENDS, FAULTS, Fault, opener, outcome, write


def cell(backend: str, fault: Fault) -> str:
    """Return what came of a fault."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), (64, 64) if fault.is_shard else None)
        with CountingServer(Path(folder)) as server, opener(backend, server) as open_:
            found = outcome(open_, server, fault)
            time.sleep(0.5)  # for the chunks that were under way
    kind, _, said = found.text.partition(": ")
    if said:  # without the place, and without what libraries add
        words = re.split(r": | \(\d+ tries\)|; before", said.partition("0/c/0/0: ")[2])[0]
        kind = " ".join([f"{kind}: {words}", *re.findall(r"\(\d+ tries\)", said)])
    return f"{kind} · {found.requests} · {found.seconds:.1f} s"


def main() -> None:
    print("| fault |", " | ".join(BACKENDS), "|")
    print("|---" * (1 + len(BACKENDS)) + "|")
    for fault in FAULTS:
        cells = [cell(backend, fault) for backend in BACKENDS]
        print("|", " | ".join([fault.name, *cells]), "|", flush=True)


if __name__ == "__main__":
    main()
