"""A server that handles SIGTERM itself, and cleans up.

Signal: SIGTERM after ready
"""

import asyncio
import signal


async def main():
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    await stop.wait()
    print("clean end")


asyncio.run(main())
