"""A bot's daily task is still asleep when the bot ends.

Like: https://github.com/Rapptz/discord.py/issues/101
"""

import asyncio

tasks = set()


async def daily():
    while True:
        await asyncio.sleep(24 * 3600)
        print("counters reset")


async def main():
    task = asyncio.get_running_loop().create_task(daily())  # leak: outlived_scope asyncio.task
    tasks.add(task)
    await asyncio.sleep(0.02)
    print("bye")


asyncio.run(main())
