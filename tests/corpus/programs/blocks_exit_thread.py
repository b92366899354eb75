"""A reader thread that is no daemon waits for a socket that stays silent, when the program is told to end.

Like: https://github.com/iwalton3/python-mpv-jsonipc/pull/22
Options: --budget 2 --grace 0.5
Signal: SIGTERM after main ends
"""

import socket
import threading

ours, theirs = socket.socketpair()
threading.Thread(target=ours.recv, args=(1,)).start()  # leak: blocks_exit thread
print("main ends", flush=True)
