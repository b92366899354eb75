"""Tasks in a ``WeakSet`` of the program's own, all done when it ends."""

import asyncio
import weakref

running = weakref.WeakSet()


async def work():
    await asyncio.sleep(0.01)


async def main():
    tasks = [asyncio.create_task(work()) for _ in range(3)]
    running.update(tasks)
    await asyncio.gather(*tasks)


asyncio.run(main())
print("end")
