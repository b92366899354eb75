"""An event store starts its compaction after each append, and lets the task go.

Like: https://github.com/google/adk-python/issues/3174
"""

import asyncio
import gc


class Store:
    def __init__(self):
        self.idle = asyncio.Event()
        self.events = []

    def append(self, event):
        self.events.append(event)
        asyncio.create_task(self._compact(len(self.events)))  # leak: lost_task asyncio.task

    async def _compact(self, upto):
        await self.idle.wait()
        del self.events[:upto]


async def conversation():
    store = Store()
    for turn in range(3):
        store.append(turn)
        await asyncio.sleep(0)


async def main():
    await conversation()
    gc.collect()


asyncio.run(main())
