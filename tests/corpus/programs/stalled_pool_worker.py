"""A worker of a pool waits for an answer that does not come, in a call without a timeout.

Like: https://github.com/ross/requests-futures/issues/60
Options: --stalled-after 0.4 --grace 0.5
Signal: SIGTERM after no progress
"""

import socket
from concurrent.futures import ThreadPoolExecutor


def fetch(address):
    with socket.create_connection(address) as connection:
        connection.sendall(b"question")
        return connection.recv(16)


server = socket.create_server(("127.0.0.1", 0))
with ThreadPoolExecutor(1) as pool:  # leak: blocks_exit thread_pool, stalled thread_pool
    print(pool.submit(fetch, server.getsockname()).result())
