"""Values that stand in files which may be anybody's: checked when they are read, frozen afterwards.

Begin at `Recorded`, the base class of `ferray.records.search_file` and `ferray.records.events`.
"""

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

Count = Annotated[StrictInt, Field(ge=0, le=10**9)]
Text = Annotated[StrictStr, Field(max_length=10_000)]
Place = Annotated[StrictStr, Field(max_length=10_000, pattern=r"\S")]
"""Not blank, since errors begin with it."""


class Recorded(BaseModel):
    """Part of a file, written with the keys that it was read or made with, unknown ones included.

    A later version may have more keys: they are kept as they are.
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    def to_json(self) -> dict[str, Any]:
        """The JSON value, keys in the order of the fields."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)

    def changed(self, **values: Any) -> Self:
        """The same with other values, which are not checked again."""
        return self.model_copy(update=values)


def describe_fault(error: ValidationError | RecursionError) -> str:
    """The first fault of a value, with its place in it."""
    fault = error.errors()[0] if isinstance(error, ValidationError) else {"loc": (), "msg": "nested too deep"}
    place = ".".join(str(part) for part in fault["loc"])
    return f"{place}: {fault['msg']}" if place else str(fault["msg"])
