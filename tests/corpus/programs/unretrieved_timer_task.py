"""A periodic refresh dies of its first error, and nobody notices.

Like: https://github.com/ecog-io/pyslac/pull/21
"""

import asyncio


class Cache:
    def __init__(self):
        self.refresher = asyncio.create_task(self.refresh())  # leak: unretrieved_exception asyncio.task

    async def refresh(self):
        while True:
            await asyncio.sleep(0.01)
            raise ConnectionError("index is gone")


async def main():
    cache = Cache()
    await asyncio.sleep(0.05)
    print("stale since the first refresh:", cache.refresher.done())


asyncio.run(main())
