"""``subprocess.run``, many times."""

import subprocess
import sys

for _ in range(3):
    print(subprocess.run([sys.executable, "-S", "-c", "print(1)"], capture_output=True, text=True, check=True).stdout.strip())
