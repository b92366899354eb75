"""A session's watcher waits for an event of the session's own; the session is dropped when its handler returns.

Like: https://github.com/python/cpython/issues/117379
"""

import asyncio
import gc


class Session:
    def __init__(self):
        self.closed = asyncio.Event()
        asyncio.create_task(self._watch())  # leak: lost_task asyncio.task

    async def _watch(self):
        await self.closed.wait()
        print("closed")


async def handle():
    Session()
    await asyncio.sleep(0)


async def main():
    await handle()
    gc.collect()
    await asyncio.sleep(0)


asyncio.run(main())
