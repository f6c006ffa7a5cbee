"""The public API from Python: stubs made from proto/ when the tests start, and short ways to ask."""

import importlib
import pathlib
import subprocess
import sys
import tempfile

import grpc

ROOT = pathlib.Path(__file__).resolve().parents[2]
SECONDS = 120
LIMITS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def make_stubs():
    folder = tempfile.mkdtemp(prefix="remask-stubs-")
    subprocess.run(
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", f"--python_out={folder}",
         f"--grpc_python_out={folder}", "remask/v1/remask.proto"], check=True)
    sys.path.insert(0, folder)
    return (folder, importlib.import_module("remask.v1.remask_pb2"),
            importlib.import_module("remask.v1.remask_pb2_grpc"))


STUBS, pb, rpc = make_stubs()


def picture(data):
    return pb.Media(image=data)


def video(frames):
    return pb.Media(video=pb.Video(frames=frames))


def ask(text, pictures=(), role="user", **fields):
    """A request of one message: pictures, then the text."""
    parts = [pb.Part(media=picture(data)) for data in pictures] + [pb.Part(text=text)]
    return pb.GenerateRequest(messages=[pb.Message(role=role, parts=parts)], **fields)


class Client:
    """`with Client(endpoint) as client:`; with a key, every call shows it."""

    def __init__(self, endpoint, key=None):
        self.metadata = None if key is None else [("authorization", f"Bearer {key}")]
        self.channel = grpc.insecure_channel(endpoint, options=LIMITS)
        self.stub = rpc.RemaskStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.channel.close()

    def once(self, request, timeout=SECONDS):
        return self.stub.GenerateOnce(request, timeout=timeout, metadata=self.metadata)

    def stream(self, request, timeout=SECONDS):
        return self.stub.Generate(request, timeout=timeout, metadata=self.metadata)

    def status(self):
        return self.stub.Status(pb.StatusRequest(), timeout=SECONDS, metadata=self.metadata)

    def raw(self, data, method="GenerateOnce", timeout=SECONDS):
        """Bytes that need not be a message."""
        return self.channel.unary_unary(f"/remask.v1.Remask/{method}")(data, timeout=timeout)
