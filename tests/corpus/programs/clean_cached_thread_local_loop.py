"""A loop per thread, closed by the thread that made it."""

import asyncio
import threading

local = threading.local()


def call(number, results):
    local.loop = asyncio.new_event_loop()
    try:
        results.append(local.loop.run_until_complete(asyncio.sleep(0, number)))
    finally:
        local.loop.close()


results = []
threads = [threading.Thread(target=call, args=(number, results)) for number in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(sorted(results))
