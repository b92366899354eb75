"""A child in a session of its own, left running on purpose."""

import subprocess
import sys

server = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(5)"], start_new_session=True)
print(server.pid > 0)
