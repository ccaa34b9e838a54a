"""An external guard in Python: it keeps code names of projects out of what tools get and give.

    apt-get install python3-grpcio python3-protobuf   # or: pip install grpcio protobuf
    buf build --path proto/sallyport/guard -o guard.binpb   # in a copy of Sallyport's repository
    sallyport cert guard   # with `sallyport dev`; it says where: .sallyport/certs/guard.crt
    python3 guard.py guard.binpb .sallyport/certs 127.0.0.1:9300

and in the file for `sallyport dev --config`:

    roles: {executor: {guards: {external: {address: "127.0.0.1:9300"}, defaults: {external: {arguments: block, results: redact}}}}}
"""

import re
import signal
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

IMAGE, CERTS, LISTEN = sys.argv[1:]
NAMES = re.compile(r"\b(nightjar|kestrel)\b", re.IGNORECASE)  # here a model would look
ALLOW, REDACT = 1, 3

pool = descriptor_pool.DescriptorPool()
with open(IMAGE, "rb") as image:
    for file in descriptor_pb2.FileDescriptorSet.FromString(image.read()).file:
        pool.Add(file)
get = getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(pool).GetPrototype
CheckRequest, CheckResponse = (get(pool.FindMessageTypeByName("sallyport.guard.v1." + name)) for name in ("CheckRequest", "CheckResponse"))


def check(request, context):
    if b"executor" not in context.auth_context().get("x509_subject_alternative_name", ()):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "only the executor may ask")
    findings = []
    for i, part in enumerate(request.parts):
        for match in NAMES.finditer(part.text):
            start, end = (len(part.text[:at].encode()) for at in match.span())  # bytes, not characters
            findings.append({"rule": "code-name", "part": i, "start": start, "end": end})
    return CheckResponse(verdict=REDACT if findings else ALLOW, score=1, findings=findings[:256])


def pem(name):
    with open(f"{CERTS}/{name}", "rb") as file:
        return file.read()


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("sallyport.guard.v1.GuardService", {
    "Check": grpc.unary_unary_rpc_method_handler(check, CheckRequest.FromString, CheckResponse.SerializeToString)}),))
server.add_secure_port(LISTEN, grpc.ssl_server_credentials(
    [(pem("guard.key"), pem("guard.crt"))], root_certificates=pem("ca.crt"), require_client_auth=True))
server.start()
signal.signal(signal.SIGTERM, lambda *_: server.stop(grace=10))
server.wait_for_termination()
