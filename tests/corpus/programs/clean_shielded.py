"""A shielded write goes on when its caller is cancelled, and is awaited later."""

import asyncio


async def write():
    await asyncio.sleep(0.05)
    return "written"


async def main():
    writing = asyncio.create_task(write())
    try:
        await asyncio.wait_for(asyncio.shield(writing), timeout=0.01)
    except asyncio.TimeoutError:
        print("caller gave up")
    print(await writing)


asyncio.run(main())
