"""A tool service in Python:

    apt-get install python3-grpcio python3-protobuf   # or: pip install grpcio protobuf
    sallyport tool serve inventory.proto -- python3 inventory.py

Requests have been checked against the rules in inventory.proto when they get here.
"""

import os
import signal
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

STOCK = {"AB-1234": {"Bergen": 3, "Oslo": 12}, "CD-0001": {}}

pool = descriptor_pool.DescriptorPool()
with open(os.environ["SALLYPORT_IMAGE"], "rb") as image:
    for file in descriptor_pb2.FileDescriptorSet.FromString(image.read()).file:
        pool.Add(file)


def message(name):
    descriptor = pool.FindMessageTypeByName(name)
    if hasattr(message_factory, "GetMessageClass"):  # protobuf 4.22 and later
        return message_factory.GetMessageClass(descriptor)
    return message_factory.MessageFactory(pool).GetPrototype(descriptor)


CountStockRequest = message("example.inventory.v1.CountStockRequest")
CountStockResponse = message("example.inventory.v1.CountStockResponse")


def count_stock(request, context):
    warehouses = STOCK.get(request.article)
    if warehouses is None:
        context.abort(grpc.StatusCode.NOT_FOUND, "there is no article of this number")
    return CountStockResponse(total=sum(warehouses.values()), warehouses=warehouses)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("example.inventory.v1.InventoryService", {
    "CountStock": grpc.unary_unary_rpc_method_handler(
        count_stock, CountStockRequest.FromString, CountStockResponse.SerializeToString),
}),))
server.add_insecure_port(os.environ["SALLYPORT_LISTEN"])
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=10))
server.wait_for_termination()
