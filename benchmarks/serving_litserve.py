"""The work of `serving.py` behind LitServe; a module of its own, since its worker imports it anew."""

from __future__ import annotations

import base64
from typing import Any

import litserve as ls
from serving_work import MOST, WAIT_S, Tail, chosen_bundle


class Api(ls.LitAPI):
    """As LitServe's documentation has it: decode, batch, predict, unbatch, encode."""

    def __init__(self, bundle: str) -> None:
        super().__init__(max_batch_size=MOST, batch_timeout=WAIT_S)
        self._bundle = bundle

    def setup(self, device: str) -> None:
        self.tail = Tail(chosen_bundle(self._bundle))

    def decode_request(self, request: dict[str, str]) -> Any:
        return self.tail.decode(base64.b64decode(request["payload"]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, x: list[Any]) -> list[int]:
        return self.tail.run(x)

    def unbatch(self, output: list[int]) -> list[int]:
        return output

    def encode_response(self, output: int) -> dict[str, int]:
        return {"label": output}
