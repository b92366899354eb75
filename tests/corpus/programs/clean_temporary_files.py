"""Temporary files and folders in ``with`` blocks, a spooled one in memory, and one kept open for the whole program."""

import os
import tempfile

log = tempfile.NamedTemporaryFile("w", suffix=".log")
for number in range(5):
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+", dir=folder) as file:
        file.write(str(number))
    with tempfile.SpooledTemporaryFile() as spooled:
        spooled.write(b"in memory")
    print(number, file=log)
print(os.path.exists(log.name))
