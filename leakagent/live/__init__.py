"""Looking at a running process from outside: a socket in each program, and the commands that ask it."""
