"""A manager in a ``with`` block."""

import multiprocessing

if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        numbers = manager.list([1, 2])
        numbers.append(3)
        print(list(numbers))
