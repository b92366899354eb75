"""A task cancels itself when its job is over."""

import asyncio


async def work():
    await asyncio.sleep(0.01)
    asyncio.current_task().cancel()
    await asyncio.sleep(60)


async def main():
    task = asyncio.create_task(work())
    await asyncio.wait({task})
    print(task.cancelled())


asyncio.run(main())
