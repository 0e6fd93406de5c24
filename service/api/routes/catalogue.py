"""What can be asked for: models, and labels of sounds."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from stemwright.service.api.catalogue import ModelView
from stemwright.service.api.context import CallerDep, ServiceDep, in_thread
from stemwright.service.api.problems import documented
from stemwright.service.errors import BusyError

router = APIRouter(tags=["catalogue"])

_MOST_LABELS = 50


class ModelList(BaseModel):
    """The models of this service."""

    items: list[ModelView]


class LabelView(BaseModel):
    """A class of sound that a job can ask for by its `query`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "/m/05tny_",
                    "name": "Bark",
                    "index": 75,
                    "path": ["Animal", "Domestic animals, pets", "Dog", "Bark"],
                    "score": 1.0,
                }
            ]
        }
    )

    id: str = Field(description="Its id in AudioSet's ontology.")
    name: str
    index: int | None = Field(description="Its index among the 527 classes that models know, if it is one.")
    path: list[str] = Field(description="Names of the classes above it, from the root down, and its own.")
    score: float = Field(ge=0, le=1, description="How well it fits; 1 for its id, index or name.")


class LabelList(BaseModel):
    """Suggestions, best first."""

    items: list[LabelView]


@router.get("/v1/models", responses=documented(BusyError), summary="List the models")
async def list_models(service: ServiceDep, _: CallerDep) -> ModelList:
    """Return every model that a job can ask for."""
    return ModelList(items=list(await in_thread(service.catalogue.models)))


@router.get("/v1/labels", responses=documented("invalid", BusyError), summary="Suggest labels of sounds")
async def suggest_labels(
    _: CallerDep,
    q: Annotated[
        str,
        Query(
            min_length=1, max_length=200, description="Words; the last may be unfinished.", examples=["dog"]
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=_MOST_LABELS, description="Most labels to return.")] = 10,
) -> LabelList:
    """Return the classes of AudioSet's ontology that a text may mean."""
    from stemwright.models.query.matching import suggest  # reads the ontology when it is first wanted

    found = await in_thread(suggest, q, limit)
    return LabelList(
        items=[
            LabelView(
                id=match.mid, name=match.name, index=match.index, path=list(match.path), score=match.score
            )
            for match in found
        ]
    )
