"""A child process takes long, and is awaited.

Options: --stalled-after 0.3
"""

import asyncio
import sys


async def main():
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(1)")
    print(await process.wait())


asyncio.run(main())
