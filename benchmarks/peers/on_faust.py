"""The hop as Faust's users write it.

python on_faust.py HOST:PORT NAMESPACE
"""

import sys
from collections.abc import AsyncIterator

import faust

bootstrap, namespace = sys.argv[1:]
app = faust.App(namespace, broker=f"kafka://{bootstrap}", web_enabled=False)


class Asked(faust.Record):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Answered(faust.Record):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


asked_topic = app.topic(f"{namespace}.hop.asked", value_type=Asked)
answered_topic = app.topic(f"{namespace}.hop.answered", value_type=Answered)


@app.agent(asked_topic, sink=[answered_topic])
async def answer(stream: faust.Stream[Asked]) -> AsyncIterator[Answered]:
    async for asked in stream:
        yield Answered(**asked.asdict())


if __name__ == "__main__":
    faust.Worker(app, loglevel="warning").execute_from_commandline()
