"""The hop as FastStream's users write it, on its aiokafka client.

python on_faststream_aiokafka.py HOST:PORT NAMESPACE
"""

import asyncio
import sys

from faststream import FastStream
from faststream.kafka import KafkaBroker
from said import Answered, Asked

bootstrap, namespace = sys.argv[1:]
# By default it logs two lines an event: without them it is faster.
broker = KafkaBroker(bootstrap, logger=None)


@broker.subscriber(f"{namespace}.hop.asked", group_id=f"{namespace}.answer", auto_offset_reset="earliest")
@broker.publisher(f"{namespace}.hop.answered")
async def answer(asked: Asked) -> Answered:
    return Answered(**asked.__dict__)


if __name__ == "__main__":
    asyncio.run(FastStream(broker).run())
