"""A pool that is given to ``run_in_executor`` and shut down after the loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor


async def main(pool):
    print(await asyncio.get_running_loop().run_in_executor(pool, sum, [1, 2]))


pool = ThreadPoolExecutor(1)
try:
    asyncio.run(main(pool))
finally:
    pool.shutdown()
