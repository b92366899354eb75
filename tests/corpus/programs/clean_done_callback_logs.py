"""A done callback looks at the exception."""

import asyncio


async def fail():
    raise ValueError("logged")


def log(task):
    print("failed:", task.exception())


async def main():
    task = asyncio.create_task(fail())
    task.add_done_callback(log)
    await asyncio.sleep(0.02)


asyncio.run(main())
