"""A computation takes long in a thread, and the loop waits for it.

Options: --stalled-after 0.3
"""

import asyncio
import time


def compute():
    time.sleep(1.2)
    return 42


async def main():
    print(await asyncio.to_thread(compute))


asyncio.run(main())
