"""A folder for uploaded files is cleaned up when the session ends, and these sessions never end.

Like: https://github.com/posit-dev/py-shiny/issues/2482
"""

import os
import tempfile


class Session:
    def __init__(self):
        self.ended = []

    def restore(self):
        folder = tempfile.TemporaryDirectory()  # leak: not_closed temporary_directory
        self.ended.append(folder.cleanup)
        return os.path.isdir(folder.name)


print([Session().restore() for _ in range(3)])
