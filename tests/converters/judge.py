"""The other side: values of a schema registry's formats, read and written by fastavro, protobuf (with protoc) and jsonschema.

The job is a JSON file: {"do": "read", "kind", "id", "schema", "values": [hex]} prints a JSON document for each value;
{"do": "write", "kind", "id", "schema", "message", "values": [document]} prints hex for each.
"""

import base64
import datetime
import decimal
import importlib
import io
import json
import os
import sys
import tempfile

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def plain(value):
    """What JSON has no type for, as Connect's types are written."""
    if isinstance(value, datetime.datetime):
        return round((value - EPOCH).total_seconds() * 1000)
    if isinstance(value, datetime.date):
        return (value - EPOCH.date()).days
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{value!r}")


class Avro:
    def __init__(self, job):
        import fastavro

        self.avro = fastavro
        self.schema = fastavro.parse_schema(json.loads(job["schema"]))

    def read(self, data):
        rest = io.BytesIO(data)
        value = self.avro.schemaless_reader(rest, self.schema)
        assert rest.read() == b"", "bytes are left"
        return value

    def write(self, value):
        if isinstance(value.get("price"), str):
            value["price"] = decimal.Decimal(value["price"])
        out = io.BytesIO()
        self.avro.schemaless_writer(out, self.schema, value)
        return out.getvalue()


class Protobuf:
    def __init__(self, job):
        import grpc_tools
        from google.protobuf.internal.decoder import _DecodeVarint32
        from grpc_tools import protoc

        self.varint = _DecodeVarint32
        folder = tempfile.mkdtemp(dir=os.path.dirname(sys.argv[1]))
        with open(os.path.join(folder, "judged.proto"), "w") as file:
            file.write(job["schema"])
        known = os.path.join(os.path.dirname(grpc_tools.__file__), "_proto")
        assert protoc.main(["", f"-I{folder}", f"-I{known}", f"--python_out={folder}", "judged.proto"]) == 0
        sys.path.insert(0, folder)
        self.module = importlib.import_module("judged_pb2")
        self.message = job.get("message")

    def type(self, name):
        from google.protobuf import message_factory

        return message_factory.GetMessageClass(self.module.DESCRIPTOR.message_types_by_name[name])

    def read(self, data):
        from google.protobuf import json_format

        count, at = self.varint(data, 0)
        assert count == 0, "the first message is a single zero"
        found = self.type(list(self.module.DESCRIPTOR.message_types_by_name)[0])()
        assert found.ParseFromString(data[at:]) == len(data) - at
        return self.fields(found)

    def fields(self, message):
        out = {}
        for field in message.DESCRIPTOR.fields:
            value = getattr(message, field.name)
            if field.message_type is not None and field.message_type.full_name == "google.protobuf.Timestamp":
                value = value.seconds * 1000 + value.nanos // 1000000
            out[field.name] = value
        return out

    def write(self, value):
        from google.protobuf import json_format

        # The index list [0] is a single zero.
        return b"\0" + json_format.ParseDict(value, self.type(self.message)()).SerializeToString()


class JsonSchema:
    def __init__(self, job):
        import jsonschema

        schema = json.loads(job["schema"])
        self.validator = jsonschema.validators.validator_for(schema)(schema)

    def read(self, data):
        value = json.loads(data)
        self.validator.validate(value)
        return value

    def write(self, value):
        self.validator.validate(value)
        return json.dumps(value).encode()


with open(sys.argv[1]) as file:
    job = json.load(file)
judge = {"AVRO": Avro, "PROTOBUF": Protobuf, "JSON": JsonSchema}[job["kind"]](job)
head = b"\0" + job["id"].to_bytes(4, "big")
for value in job["values"]:
    if job["do"] == "write":
        print((head + judge.write(value)).hex())
    else:
        data = bytes.fromhex(value)
        assert data.startswith(head), data[:5]
        print(json.dumps(judge.read(data[5:]), default=plain))
