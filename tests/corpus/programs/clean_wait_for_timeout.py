"""A time-out cancels what takes too long."""

import asyncio


async def main():
    try:
        await asyncio.wait_for(asyncio.sleep(60), timeout=0.02)
    except asyncio.TimeoutError:
        print("timed out")


asyncio.run(main())
