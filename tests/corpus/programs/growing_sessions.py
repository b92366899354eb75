"""Each request adds a task to a list that nothing is ever taken out of.

Like: https://github.com/pnbruckner/ha-life360/issues/101
Options: --stalled-after 1
Signal: SIGTERM after keeps growing
"""

import asyncio

sessions = []


async def session():
    await asyncio.get_running_loop().create_future()


async def main():
    while True:
        sessions.append(asyncio.create_task(session()))  # leak: growing asyncio.task
        await asyncio.sleep(0.05)


asyncio.run(main())
