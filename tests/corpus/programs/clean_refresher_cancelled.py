"""A background refresher that is cancelled and awaited at the end."""

import asyncio
import contextlib


async def refresh():
    while True:
        await asyncio.sleep(0.01)


async def main():
    refresher = asyncio.create_task(refresh())
    await asyncio.sleep(0.05)
    refresher.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await refresher


asyncio.run(main())
