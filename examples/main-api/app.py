"""The main API's side of Lockgate: the three places where it forwards to it."""

import contextlib

from fastapi import FastAPI

import integration_router
import lockgate
import session_router
import websocket_router


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI):
    async with lockgate.client() as client:
        app.state.client = client
        yield


app = FastAPI(title="Main API", lifespan=lifespan)
app.include_router(integration_router.router)
app.include_router(session_router.router)
app.include_router(websocket_router.router)
