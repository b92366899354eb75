"""Tasks that wait for each other in a ring of events, and all end."""

import asyncio


async def step(mine, following):
    await mine.wait()
    following.set()


async def main():
    events = [asyncio.Event() for _ in range(5)]
    tasks = [asyncio.create_task(step(events[number], events[(number + 1) % 5])) for number in range(5)]
    events[0].set()
    await asyncio.gather(*tasks)
    print("round")


asyncio.run(main())
