"""Only the name of a temporary file is kept; the open file itself is dropped.

Like: https://github.com/JSv4/Python-Redlines/issues/30
"""

import os
import tempfile


def redline(number):
    target = tempfile.NamedTemporaryFile(delete=False).name  # leak: not_closed temporary_file
    with open(target, "w") as file:
        file.write(f"line {number}\n")
    return target


for target in map(redline, range(3)):
    print(os.path.getsize(target))
    os.unlink(target)
