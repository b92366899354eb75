"""A loop that is made and closed by hand, as older programs do it, with a task that still sleeps.

Like: https://github.com/tornadoweb/tornado/issues/2763
"""

import asyncio


async def poll():
    while True:
        await asyncio.sleep(60)


async def main():
    await asyncio.sleep(0)


loop = asyncio.new_event_loop()
task = loop.create_task(poll())  # leak: outlived_scope asyncio.task
loop.run_until_complete(main())
loop.close()
