"""Thirty requests, thirty dropped background tasks of one line: told once, with their number.

Like: https://github.com/NovaOSS/nova-api/pull/18
"""

import asyncio
import gc


class Request:
    def __init__(self, number):
        self.number = number
        self.answered = asyncio.Event()

    async def log(self):
        await self.answered.wait()
        print(self.number)


def log_later(request):
    asyncio.create_task(request.log())  # leak: lost_task asyncio.task


async def main():
    for number in range(30):
        log_later(Request(number))
        await asyncio.sleep(0)
    gc.collect()


asyncio.run(main())
