"""A request waits for an event much longer than the threshold; somebody can set it.

Options: --stalled-after 0.3
"""

import asyncio


async def wait(event):
    await event.wait()
    return "set"


async def main():
    event = asyncio.Event()
    waiting = asyncio.create_task(wait(event))
    await asyncio.sleep(1.2)
    event.set()
    print(await waiting)


asyncio.run(main())
