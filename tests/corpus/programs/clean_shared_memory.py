"""A block of shared memory that is unlinked."""

from multiprocessing.shared_memory import SharedMemory

block = SharedMemory(create=True, size=1024)
block.close()
block.unlink()
print("end")
