"""The protobuf messages of an ONNX file that carving reads. The package onnx has all of them, but takes 25 MB.

Only the fields listed here have names. protobuf keeps all others (most of attributes, values of weights, types)
unchanged, and writes them out again.

The messages are in a pool and a package of their own, so the package onnx may be loaded, too.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto

PACKAGE = "spinn_stream.onnx"

FIELDS: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "ModelProto": {
        "ir_version": (1, _Field.TYPE_INT64, False),
        "graph": (7, "GraphProto", False),
        "opset_import": (8, "OperatorSetIdProto", True),
        "functions": (25, "FunctionProto", True),
    },
    "OperatorSetIdProto": {
        "domain": (1, _Field.TYPE_STRING, False),
        "version": (2, _Field.TYPE_INT64, False),
    },
    "GraphProto": {
        "node": (1, "NodeProto", True),
        "name": (2, _Field.TYPE_STRING, False),
        "initializer": (5, "TensorProto", True),
        "input": (11, "ValueInfoProto", True),
        "output": (12, "ValueInfoProto", True),
        "value_info": (13, "ValueInfoProto", True),
        "quantization_annotation": (14, "TensorAnnotation", True),
        "sparse_initializer": (15, "SparseTensorProto", True),
    },
    "NodeProto": {
        "input": (1, _Field.TYPE_STRING, True),
        "output": (2, _Field.TYPE_STRING, True),
        "name": (3, _Field.TYPE_STRING, False),
        "op_type": (4, _Field.TYPE_STRING, False),
        "attribute": (5, "AttributeProto", True),
        "domain": (7, _Field.TYPE_STRING, False),
    },
    "AttributeProto": {
        "name": (1, _Field.TYPE_STRING, False),
        "f": (2, _Field.TYPE_FLOAT, False),
        "ints": (8, _Field.TYPE_INT64, True),
        "type": (20, "AttributeProto.AttributeType", False),
    },
    "TensorProto": {
        "name": (8, _Field.TYPE_STRING, False),
        "data_location": (14, "TensorProto.DataLocation", False),
    },
    "ValueInfoProto": {"name": (1, _Field.TYPE_STRING, False)},
    "FunctionProto": {},
    "TensorAnnotation": {},
    "SparseTensorProto": {},
}
"""Message -> field -> (number, type, whether it is repeated), as onnx/onnx.proto has them."""

ENUMS = {
    "TensorProto.DataLocation": {"DEFAULT": 0, "EXTERNAL": 1},
    "AttributeProto.AttributeType": {
        "UNDEFINED": 0, "FLOAT": 1, "INT": 2, "STRING": 3, "TENSOR": 4, "GRAPH": 5, "FLOATS": 6, "INTS": 7,
        "STRINGS": 8, "TENSORS": 9, "GRAPHS": 10, "SPARSE_TENSOR": 11, "SPARSE_TENSORS": 12, "TYPE_PROTO": 13,
        "TYPE_PROTOS": 14,
    },
}  # fmt: skip


def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="spinn_stream/onnx.proto", package=PACKAGE, syntax="proto2")
    described = {message: file.message_type.add(name=message) for message in FIELDS}
    for message, fields in FIELDS.items():
        for name, (number, kind, repeated) in fields.items():
            field = described[message].field.add(name=name, number=number)
            field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            if isinstance(kind, int):
                field.type = kind
            else:
                field.type = _Field.TYPE_MESSAGE if kind in FIELDS else _Field.TYPE_ENUM
                field.type_name = f".{PACKAGE}.{kind}"
    for path, values in ENUMS.items():
        message, _, name = path.partition(".")
        described[message].enum_type.add(name=name, value=[{"name": n, "number": i} for n, i in values.items()])
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}


MESSAGES = _messages()
"""Message -> its class."""

ModelProto: Any = MESSAGES["ModelProto"]
NodeProto: Any = MESSAGES["NodeProto"]
EXTERNAL = ENUMS["TensorProto.DataLocation"]["EXTERNAL"]
FLOAT, INTS = (ENUMS["AttributeProto.AttributeType"][name] for name in ("FLOAT", "INTS"))
