"""A task group: its tasks end with it, also when one fails."""

import asyncio


async def fail():
    await asyncio.sleep(0)
    raise ValueError("one of three")


async def main():
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(60))
            group.create_task(fail())
            group.create_task(asyncio.sleep(60))
    except* ValueError as errors:
        print(errors.exceptions)


asyncio.run(main())
