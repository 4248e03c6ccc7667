"""Serves a Sidevault validator: the protocol of docs/plugins.md, in Python.

    from sidevault_plugin import accept, reject, serve

    def validate(request, context):
        return accept() if good(request.fields["value"]) else reject("why, and what to do")

    serve(validate, name="acme", version="1.0.0")

It needs grpcio, protobuf and cryptography. validate is called concurrently. What it
raises is no answer, and the credential is then not stored; the text of a NoAnswer goes
to the sidecar's log.
"""

import base64
import datetime
import os
import sys
import tempfile
import threading
from concurrent import futures

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sidevault.plugin.v1 import plugin_pb2 as pb

COOKIE = ("SIDEVAULT_PLUGIN", "5f4b7c0d-sidevault-plugin-v1")
PROTOCOL = 1
# The sidecar makes so many calls at once, unless it is configured otherwise. A
# thread that waits for a provider keeps others from being answered.
CALLS = 16


class NoAnswer(Exception):
    """The validator cannot tell. The text must not contain the value of a field."""


def accept():
    """The credential is good."""
    return pb.ValidateResponse(verdict=pb.ValidateResponse.VERDICT_VALID)


def reject(message, **fields):
    """The credential is not good; fields says what is wrong with single fields."""
    return pb.ValidateResponse(
        verdict=pb.ValidateResponse.VERDICT_REJECTED, message=message, field_messages=fields
    )


def serve(validate, name, version, description=""):
    """Answers the sidecar's calls until it ends the program."""
    if os.environ.get(COOKIE[0]) != COOKIE[1]:
        sys.exit("This program is a plugin of Sidevault, which starts it.")
    about = pb.DescribeResponse(
        name=name, version=version, description=description, services=["validator"]
    )
    stop = threading.Event()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2 * CALLS))
    server.add_generic_rpc_handlers(handlers(validate, about, stop))
    key, certificate = self_signed()
    credentials = grpc.ssl_server_credentials(
        [(key, certificate.public_bytes(serialization.Encoding.PEM))],
        root_certificates=os.environ["PLUGIN_CLIENT_CERT"].encode(),
        require_client_auth=True,
    )
    folder = os.environ.get("PLUGIN_UNIX_SOCKET_DIR") or tempfile.mkdtemp()
    path = os.path.join(folder, "plugin.sock")
    server.add_secure_port("unix:" + path, credentials)
    server.start()
    der = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER))
    # The handshake. Nothing else may be printed; log to sys.stderr.
    print("|".join(["1", str(PROTOCOL), "unix", path, "grpc", der.decode().rstrip("=")]), flush=True)
    stop.wait()
    server.stop(grace=1).wait()


def handlers(validate, about, stop):
    """The services: those of Sidevault, and two that go-plugin asks for."""

    def answer(request, context):
        try:
            return validate(request, context)
        except NoAnswer as reason:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(reason))
        # The text of any other may quote the request, so it is not passed on.
        except Exception as error:  # pylint: disable=broad-except
            print(f"validate: {type(error).__name__}", file=sys.stderr, flush=True)
            context.abort(grpc.StatusCode.UNAVAILABLE, f"the validator has a {type(error).__name__}")

    def shutdown(_request, _context):
        stop.set()
        return b""

    def unary(call, request=None, response=None):
        # Without a message type, a message is its bytes.
        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=request and request.FromString,
            response_serializer=response and response.SerializeToString,
        )

    def service(name, **methods):
        return grpc.method_handlers_generic_handler(name, methods)

    return (
        service("sidevault.plugin.v1.Validator", Validate=unary(answer, pb.ValidateRequest, pb.ValidateResponse)),
        service("sidevault.plugin.v1.Plugin", Describe=unary(lambda *_: about, pb.DescribeRequest, pb.DescribeResponse)),
        # HealthCheckResponse{status: SERVING} is field 1, number 1.
        service("grpc.health.v1.Health", Check=unary(lambda *_: b"\x08\x01")),
        service("plugin.GRPCController", Shutdown=unary(shutdown)),
    )


def self_signed():
    """A key and a certificate for this process alone, which the sidecar will pin."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem, certificate
