"""Threads that are joined."""

import threading

results = []
threads = [threading.Thread(target=results.append, args=(number,)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(results))
