"""A worker's loop catches CancelledError like every other error and goes on.

Like: https://github.com/cjrh/aiorun/issues/77
Options: --grace 0.5
"""

import asyncio


async def unstoppable():
    while True:
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            pass


async def main():
    task = asyncio.create_task(unstoppable())  # leak: refused_cleanup asyncio.task
    await asyncio.sleep(0.02)
    return None if task.done() else print("main ends")


asyncio.run(main())
