"""anyio's task groups, cancel scopes and threads.

Needs: anyio
"""

import anyio
import anyio.to_thread


async def main():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 60)
        print(await anyio.to_thread.run_sync(len, "abc"))
        with anyio.move_on_after(0.02):
            await anyio.sleep(60)
        group.cancel_scope.cancel()


anyio.run(main)
