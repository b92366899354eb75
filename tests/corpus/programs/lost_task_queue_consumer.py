"""A pipeline starts its consumer in the constructor and is forgotten: queue and consumer keep only each other alive.

Like: https://github.com/google/adk-python/issues/3174
"""

import asyncio
import gc


class Pipeline:
    def __init__(self):
        self.queue = asyncio.Queue()
        asyncio.get_running_loop().create_task(self._consume())  # leak: lost_task asyncio.task

    async def _consume(self):
        while True:
            print("got", await self.queue.get())


async def ingest(document):
    pipeline = Pipeline()
    await pipeline.queue.put(document)
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def main():
    await ingest("a")
    gc.collect()
    await asyncio.sleep(0)


asyncio.run(main())
