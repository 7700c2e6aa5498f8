"""python-eris's store client: reads `put|get SIZE COUNT SEED` lines, answers with seconds.

First argument: the URL of the store.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from collections.abc import Coroutine, Iterator
from typing import Any

# An untyped package, whose name is that of ours.
python_eris_coap: Any = __import__("eris.coap", fromlist=["coap"])
python_eris_crypto: Any = __import__("eris.crypto", fromlist=["crypto"])

WINDOW = 64


async def pump(requests: Iterator[Coroutine[Any, Any, Any]]) -> None:
    in_flight: deque[asyncio.Task[Any]] = deque()
    for request in requests:
        if len(in_flight) >= WINDOW:
            await in_flight.popleft()
        in_flight.append(asyncio.ensure_future(request))
    while in_flight:
        await in_flight.popleft()


async def main(url: str) -> None:
    store = python_eris_coap.Store(url)
    for line in sys.stdin:
        operation, size, count, seed = line.split()
        source = random.Random(int(seed))
        blocks = [source.randbytes(int(size)) for _ in range(int(count))]
        references = [python_eris_crypto.Blake2b_256(block) for block in blocks]
        begin = time.perf_counter()
        if operation == "put":
            await pump(store.put(r, b) for r, b in zip(references, blocks, strict=True))
        else:
            await pump(store.get(r, int(size)) for r in references)
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


asyncio.run(main(sys.argv[1]))
