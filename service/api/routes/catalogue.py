"""What can be asked for: models, and labels of sounds."""

from fastapi import APIRouter
from pydantic import BaseModel

from stemwright.service.api.catalogue import ModelView
from stemwright.service.api.context import CallerDep, ServiceDep, in_thread
from stemwright.service.api.problems import documented
from stemwright.service.errors import BusyError

router = APIRouter(tags=["catalogue"])


class ModelList(BaseModel):
    """The models of this service."""

    items: list[ModelView]


@router.get("/v1/models", responses=documented(BusyError), summary="List the models")
async def list_models(service: ServiceDep, _: CallerDep) -> ModelList:
    """Return every model that a job can ask for."""
    return ModelList(items=list(await in_thread(service.catalogue.models)))
