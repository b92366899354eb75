"""A chat answer is written to the history by ``ensure_future``, whose result nobody keeps; what it waits for is its own.

Like: https://github.com/lbryio/lbry-sdk/pull/3734
"""

import asyncio
import gc


class Answer:
    def __init__(self):
        self.finished = asyncio.Condition()

    async def write(self):
        async with self.finished:
            await self.finished.wait()
        print("written")


async def chat():
    answer = Answer()
    asyncio.ensure_future(answer.write())  # leak: lost_task asyncio.task
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def main():
    await chat()
    gc.collect()


asyncio.run(main())
