"""A helper server is started and never told to end.

Like: https://github.com/chroma-core/chroma-mcp/issues/65
"""

import subprocess
import sys

server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])  # leak: orphaned subprocess
print("started", server.pid > 0)
