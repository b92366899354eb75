"""A background loop in a daemon thread, which is stopped and joined."""

import asyncio
import threading

loop = asyncio.new_event_loop()
thread = threading.Thread(target=loop.run_forever, daemon=True)
thread.start()
print(asyncio.run_coroutine_threadsafe(asyncio.sleep(0.01, "answer"), loop).result())
loop.call_soon_threadsafe(loop.stop)
thread.join()
loop.close()
