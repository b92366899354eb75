"""A connection that nobody lets go of, a thread that still writes, and the end of the program.

python lance_end.py FOLDER
"""

from __future__ import annotations

import os
import sys
import threading

import lancedb

db = lancedb.connect(os.path.join(sys.argv[1], "end"))  # leak: not_closed lancedb.connection
table = db.create_table("t", [{"id": 1}])


def work() -> None:
    threading.main_thread().join()
    for n in range(5):
        table.add([{"id": n}])
    print("the thread wrote", len(table), flush=True)


threading.Thread(target=work).start()
sys.exit(3)
