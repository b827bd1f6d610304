"""What ovmsclient hears from a server: `python ovms_caller.py grpc|rest HOST:PORT MODEL`.

It runs in a process of its own: it brings its own messages under the names of TensorFlow's, which a process holds once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import ovmsclient

IMAGE = np.arange(24, dtype=np.float32).reshape(1, 1, 3, 4, 2) / 24


def response_of(call: Callable[[], Any]) -> Any:
    """Return the response as JSON values, or the error's type and text."""
    try:
        return plain(call())
    except Exception as error:
        return [type(error).__name__, str(error)]


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): plain(element) for name, element in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def main(kind: str, address: str, model: str) -> None:
    """Ask and print one JSON object."""
    client: Any = {"grpc": ovmsclient.make_grpc_client, "rest": ovmsclient.make_http_client}[kind](address)
    print(
        json.dumps(
            {
                "predict": response_of(lambda: client.predict({"image": IMAGE}, model, 2)),
                "status": response_of(lambda: client.get_model_status(model, 1)),
                "metadata": response_of(lambda: client.get_model_metadata(model, 1)),
                "unknown model": response_of(lambda: client.predict({"image": IMAGE}, "m", 1)),
                "unknown version": response_of(lambda: client.get_model_status(model, 9)),
                "wrong name": response_of(lambda: client.predict({"picture": IMAGE}, model, 1)),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
