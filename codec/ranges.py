"""Types of the values of a configuration, with their ranges."""

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]

# Of a model: far above anything useful, because its config.json may come from a stranger.
MAX_SIZE = 2**16
Size = Annotated[int, Field(ge=1, le=MAX_SIZE)]
Depth = Annotated[int, Field(ge=0, le=128)]
Steps = Annotated[int, Field(ge=2, le=MAX_SIZE)]
Delay = Annotated[int, Field(ge=0, le=MAX_SIZE)]
SampleRate = Annotated[int, Field(ge=1, le=2**20)]
Expansion = Annotated[float, Field(gt=0, le=64)]
