"""A synchronous call blocks the event loop while a request waits.

Like: https://github.com/ergut/mcp-logseq/issues/44
Options: --stalled-after 0.4
"""

import asyncio
import time


async def handle():
    await asyncio.sleep(0)
    return "answer"


async def main():
    request = asyncio.create_task(handle())
    time.sleep(2)  # leak: stalled event_loop
    print(await request)


asyncio.run(main())
