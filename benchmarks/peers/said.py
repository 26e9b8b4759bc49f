"""What is said in the hop, as pydantic models that travel as JSON."""

from pydantic import BaseModel


class Asked(BaseModel):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int


class Answered(BaseModel):
    name: str
    text: str
    count: int
    share: float
    is_new: bool
    place: str
    when_us: int
