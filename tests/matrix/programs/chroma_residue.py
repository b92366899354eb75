"""Clients of every local kind, closed by the program or left to the agent; prints what the process has more than before the first one.

python chroma_residue.py FOLDER HOW
"""

from __future__ import annotations

import json
import logging
import os
import sys

from chroma_clients import close, ephemeral, persistent, registry, use
from counted import everything, more

import leakagent

logging.disable(logging.CRITICAL)
folder, how = sys.argv[1:]


def main() -> None:
    os.makedirs(folder)
    before = everything()
    clients = [ephemeral(), *(persistent() for _ in range(3))]
    for client in clients:
        use(client)
    if how == "closed":
        for client in clients:
            close(client)
    else:
        leakagent.shutdown()
    del client
    clients.clear()
    print(json.dumps({**more(before), **({"Systems": len(registry())} if registry() else {})}))


if __name__ == "__main__":
    main()
