"""A cache fills to its limit while work comes and goes in waves: for half a minute both grow, and neither is a leak.

Options: --stalled-after 1
"""

import asyncio
import time

cache = []


async def entry(stop):
    await stop.wait()


async def request():
    await asyncio.sleep(0.2)


async def main():
    stop = asyncio.Event()
    end = time.monotonic() + 40
    turn = 0
    while time.monotonic() < end:
        turn += 1
        if len(cache) < 60:
            cache.append(asyncio.create_task(entry(stop)))
        await asyncio.gather(*(request() for _ in range(turn % 15)))
        await asyncio.sleep(0.1)
    stop.set()
    await asyncio.gather(*cache)
    print(len(cache))


asyncio.run(main())
