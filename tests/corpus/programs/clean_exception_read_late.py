"""The exception of a task is read long after the task has failed."""

import asyncio
import gc


async def fail():
    raise ValueError("late")


async def main():
    task = asyncio.create_task(fail())
    await asyncio.sleep(0.02)
    gc.collect()
    print(repr(task.exception()))


asyncio.run(main())
