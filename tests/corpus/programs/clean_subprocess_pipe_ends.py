"""A filter that ends when its input is closed with the program."""

import subprocess
import sys

code = "import sys; sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
print(child.poll())
