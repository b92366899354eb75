"""A ``ShareableList`` of results is left in /dev/shm.

Like: https://github.com/dillonalaird/shared_numpy/issues/9
"""

from multiprocessing.shared_memory import ShareableList

results = ShareableList(["a", 1])  # leak: not_closed shared_memory
print(list(results))
results.shm.close()
