"""Background tasks in a set, each taken out when it is done: the documented way."""

import asyncio

background = set()


async def work(number):
    await asyncio.sleep(0.01)
    return number


def spawn(coroutine):
    task = asyncio.create_task(coroutine)
    background.add(task)
    task.add_done_callback(background.discard)


async def main():
    for number in range(5):
        spawn(work(number))
    await asyncio.gather(*background)
    print(len(background))


asyncio.run(main())
