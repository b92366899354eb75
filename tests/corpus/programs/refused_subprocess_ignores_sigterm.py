"""A tool server that ignores SIGTERM is killed when the user asked for its end.

Like: https://github.com/imbue-ai/mngr/issues/1280
Options: --subprocesses end --grace 0.5
"""

import subprocess
import sys

CODE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
server = subprocess.Popen([sys.executable, "-c", CODE], stdout=subprocess.PIPE)  # leak: refused_cleanup subprocess
server.stdout.readline()
print("done")
