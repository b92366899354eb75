"""Connections and tables, closed by the program or left to the agent; prints what the process has more than before the first one.

python lance_residue.py FOLDER HOW
"""

from __future__ import annotations

import json
import os
import sys

from counted import everything, more
from lance_connections import close, connect, connect_async

import leakagent
from leakagent.testing import stop_lancedb_loop

folder, how = sys.argv[1:]


def main() -> None:
    os.makedirs(folder)
    before = everything()
    connections = [connect(), connect_async(), connect()]
    if how == "closed":
        for connection in connections:
            close(connection)
        stop_lancedb_loop()
    else:
        leakagent.shutdown()
    connections.clear()
    # How many workers the native runtime has at a moment is its own business: it starts them as it needs them, and ends idle ones later.
    print(json.dumps({what: number if "threads" not in what else "some" for what, number in more(before).items()}))


if __name__ == "__main__":
    main()
