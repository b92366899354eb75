"""A reader task waits for a stream that nobody feeds any more, because the protocol was dropped with it.

Like: https://github.com/ikalchev/HAP-python/pull/460
"""

import asyncio
import gc


class Decoder:
    def __init__(self):
        self.reader = asyncio.StreamReader()
        asyncio.create_task(self._decode())  # leak: lost_task asyncio.task

    async def _decode(self):
        while line := await self.reader.readline():
            print(line.decode().strip())


async def connection():
    decoder = Decoder()
    decoder.reader.feed_data(b"hello\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def main():
    await connection()
    gc.collect()


asyncio.run(main())
