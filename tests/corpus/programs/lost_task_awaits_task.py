"""A dropped task waits for another dropped one, which waits for a reply that is kept nowhere.

Like: https://github.com/automicus/PyISY/pull/425
"""

import asyncio
import gc


class Request:
    def __init__(self):
        self.reply = asyncio.get_running_loop().create_future()

    async def receive(self):
        return await self.reply

    async def process(self, receiving):
        print("processed", await receiving)


async def send():
    request = Request()
    receiving = asyncio.create_task(request.receive())  # leak: lost_task asyncio.task
    asyncio.create_task(request.process(receiving))  # leak: lost_task asyncio.task
    await asyncio.sleep(0)
    await asyncio.sleep(0)


async def main():
    await send()
    gc.collect()


asyncio.run(main())
