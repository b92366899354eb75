"""A block of shared memory is closed and never unlinked.

Like: https://github.com/luizalabs/shared-memory-dict/issues/55
"""

from multiprocessing.shared_memory import SharedMemory

block = SharedMemory(create=True, size=1 << 20)  # leak: not_closed shared_memory
block.buf[0] = 1
block.close()
