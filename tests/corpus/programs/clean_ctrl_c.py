"""Ctrl+C in ``asyncio.run``: the main task is cancelled and ends.

Signal: SIGINT after ready
"""

import asyncio


async def main():
    print("ready", flush=True)
    await asyncio.sleep(60)


try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
