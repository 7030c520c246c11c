"""The messages of the Open Inference Protocol over gRPC, made from their published names and numbers of fields.

A message on the wire is numbers of fields and values, so this table is all that both sides have to agree on. Entries
of a map are messages with the fields `key` and `value`, and are declared as such.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_TENSOR = "name:1 string, datatype:2 string, shape:3 int64*, parameters:4 Entry*, contents:5 Contents"
_SAID = "name:1 string, datatype:2 string, shape:3 int64*"
_NAMED = "name:1 string, version:2 string"

_MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "live:1 bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "ready:1 bool",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "ready:1 bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "name:1 string, version:2 string, extensions:3 string*",
    "ModelMetadataRequest": _NAMED,
    "ModelMetadataResponse": "name:1 string, versions:2 string*, platform:3 string, inputs:4 Said*, outputs:5 Said*",
    "ModelInferRequest": "model_name:1 string, model_version:2 string, id:3 string, parameters:4 Entry*, "
    "inputs:5 Tensor*, outputs:6 Wanted*, raw_input_contents:7 bytes*",
    "ModelInferResponse": "model_name:1 string, model_version:2 string, id:3 string, parameters:4 Entry*, "
    "outputs:5 Tensor*, raw_output_contents:6 bytes*",
    "Said": _SAID,
    "Tensor": _TENSOR,
    "Wanted": "name:1 string, parameters:2 Entry*",
    "Entry": "key:1 string, value:2 Value",
    "Value": "bool_param:1 bool|, int64_param:2 int64|, string_param:3 string|, double_param:4 double|, "
    "uint64_param:5 uint64|",
    "Contents": "bool_contents:1 bool*, int_contents:2 int32*, int64_contents:3 int64*, uint_contents:4 uint32*, "
    "uint64_contents:5 uint64*, fp32_contents:6 float*, fp64_contents:7 double*, bytes_contents:8 bytes*",
}
"""By message its fields: name, number, type; `*` marks what is repeated, `|` what excludes the others."""

CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field that holds the elements of a tensor, by datatype; any other comes as bytes."""


def _file() -> descriptor_pb2.FileDescriptorProto:
    """Return the description of all messages, as protobuf has it."""
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="ssim_inference.proto", package=PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for one in filter(None, fields.split(", ")):
            (field, number), kind = one.split(" ")[0].split(":"), one.split(" ")[1]
            described = message.field.add(name=field, number=int(number))
            described.label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            if kind.endswith("|"):
                if not message.oneof_decl:
                    message.oneof_decl.add(name="choice")
                described.oneof_index = 0
            kind = kind.strip("*|")
            if kind in _MESSAGES:
                described.type, described.type_name = kinds.TYPE_MESSAGE, f".{PACKAGE}.{kind}"
            else:
                described.type = getattr(kinds, f"TYPE_{kind.upper()}")
    return file


_POOL = descriptor_pool.DescriptorPool()  # of its own: a client in this process may have the same names
_POOL.Add(_file())


def message(name: str) -> Any:  # a class that protobuf makes when the program runs
    """Return the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))
