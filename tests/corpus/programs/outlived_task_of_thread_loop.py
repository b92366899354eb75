"""A worker thread runs a loop of its own and leaves a refresher in it.

Like: https://github.com/home-assistant/supervisor/pull/7220
"""

import asyncio
import threading


async def refresh():
    while True:
        await asyncio.sleep(30)


async def work():
    refresher = asyncio.create_task(refresh())  # leak: outlived_scope asyncio.task
    await asyncio.sleep(0.02)
    return refresher


def run():
    asyncio.run(work())
    print("worker ended")


thread = threading.Thread(target=run)
thread.start()
thread.join()
