"""One channel for the whole program, and short ones in ``with`` blocks.

Needs: grpc
"""

import grpc

channel = grpc.insecure_channel("127.0.0.1:9")
for _ in range(20):
    with grpc.insecure_channel("127.0.0.1:9"):
        pass
print("done")
