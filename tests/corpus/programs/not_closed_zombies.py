"""Each track starts a player and looks away: the ended children stay as zombies.

Like: https://github.com/enkore/i3pystatus/pull/422
"""

import os
import subprocess
import sys

players = []


def play(track):
    player = subprocess.Popen([sys.executable, "-S", "-c", f"print({track})"])  # leak: not_closed subprocess
    players.append(player)


for track in range(3):
    play(track)
for player in players:
    os.waitid(os.P_PID, player.pid, os.WEXITED | os.WNOWAIT)
print("end")
