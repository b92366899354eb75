"""A client object opens a channel for each of its services, and so does the next one.

Like: https://github.com/layerai-archive/sdk/pull/237
Needs: grpc
"""

import grpc


class Client:
    def __init__(self):
        self.services = [grpc.insecure_channel("127.0.0.1:9") for _ in range(5)]  # leak: not_closed grpc.channel


clients = [Client() for _ in range(3)]
print(sum(len(client.services) for client in clients))
