"""Children whose end is waited for much later."""

import subprocess
import sys

players = [subprocess.Popen([sys.executable, "-S", "-c", "pass"]) for _ in range(3)]
for player in players:
    player.wait()
print("end")
