"""Held by the agent, a fire-and-forget task goes on to its end: without it the write would be missing.

Like: https://github.com/microsoft/botbuilder-python/pull/2005
"""

import asyncio
import gc
import weakref


class Entry:
    def __init__(self):
        self.rated = asyncio.get_running_loop().create_future()
        asyncio.create_task(self._save())  # leak: lost_task asyncio.task

    async def _save(self):
        print("saved", await self.rated)


async def main():
    entry = Entry()
    seen = weakref.ref(entry)
    await asyncio.sleep(0)
    del entry
    gc.collect()
    kept = seen()
    if kept is not None:
        kept.rated.set_result(5)
        await asyncio.sleep(0)


asyncio.run(main())
