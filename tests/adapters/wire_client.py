"""Perform the operations of conformance/wire's ``agent`` through our client. See its README.md.

One JSON object a line in, one a line out, against the agent at ``WIRE_URL``; ``WIRE_CA`` is the authority of
its certificate.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from typing import Any

import yaml

from reflow.core.bloom import BloomFilter
from reflow.core.digest import Digest
from reflow.core.errors import ReflowError, kind_of
from reflow.core.filesetjson import fileset_from_json, fileset_to_json
from reflow.core.gojson import fold
from reflow.core.resources import Resources
from reflow.core.wire import (
    exec_config_from_json,
    exec_config_to_json,
    exec_inspect_from_json,
    exec_result_to_json,
    resources_to_json,
)
from reflow.pool.client import AgentAlloc, AgentExec, AgentOffer, AgentPool
from reflow.pool.wire import NANOSECONDS, alloc_from_json, meta_from_json, meta_to_json
from reflow.rest import Rest


class Client:
    """Operations by name; allocs are remembered under the names that operations give them."""

    def __init__(self, rest: Rest) -> None:
        self.pool = AgentPool(rest)
        self.allocs: dict[str, AgentAlloc] = {}

    def _remember(self, op: dict[str, Any], alloc: AgentAlloc) -> dict[str, Any]:
        self.allocs[op["as"]] = alloc
        return {"id": alloc.id, "resources": resources_to_json(alloc.resources)}

    def _alloc(self, op: dict[str, Any]) -> AgentAlloc:
        return self.allocs[op["alloc"]]

    async def _exec(self, op: dict[str, Any]) -> AgentExec:
        return AgentExec(self.pool._rest, self._alloc(op), Digest.parse(op["exec"]))

    async def config(self, op: dict[str, Any]) -> Any:
        return sorted(yaml.safe_load(await self.pool.config()))

    async def offers(self, op: dict[str, Any]) -> Any:
        return [_offer(each) for each in await self.pool.offers()]

    async def offer(self, op: dict[str, Any]) -> Any:
        return _offer(await self.pool.offer(op["id"]))

    async def accept(self, op: dict[str, Any]) -> Any:
        first, *_ = await self.pool.offers()
        return self._remember(op, await first.accept(meta_from_json(op["meta"])))

    async def allocs_(self, op: dict[str, Any]) -> Any:
        return [
            {"id": each.id, "resources": resources_to_json(each.resources)}
            for each in await self.pool.allocs()
        ]

    async def alloc(self, op: dict[str, Any]) -> Any:
        return self._remember(op, await self.pool.alloc(op["id"]))

    async def keepalive(self, op: dict[str, Any]) -> Any:
        return round(await self._alloc(op).keepalive(op["interval"] / NANOSECONDS) * NANOSECONDS)

    async def inspect_alloc(self, op: dict[str, Any]) -> Any:
        """With times as they came: ours have microseconds."""
        row = await self._alloc(op).inspect_json()
        known, fields = alloc_from_json(row), fold(row)
        return {
            "ID": known.id,
            "Resources": resources_to_json(known.resources),
            "Meta": meta_to_json(known.meta),
            "Created": fields.get("created"),
            "LastKeepalive": fields.get("lastkeepalive"),
            "Expires": fields.get("expires"),
        }

    async def free(self, op: dict[str, Any]) -> Any:
        await self._alloc(op).free()

    async def execs(self, op: dict[str, Any]) -> Any:
        alloc = self._alloc(op)
        return [_exec(AgentExec(self.pool._rest, alloc, id)) for id in await alloc.execs()]

    async def put(self, op: dict[str, Any]) -> Any:
        config = exec_config_from_json(op["config"])
        return _exec(await self._alloc(op).put(Digest.parse(op["id"]), config))

    async def get(self, op: dict[str, Any]) -> Any:
        return _exec(await self._alloc(op).get(Digest.parse(op["id"])))

    async def remove(self, op: dict[str, Any]) -> Any:
        await self._alloc(op).remove(Digest.parse(op["id"]))

    async def wait(self, op: dict[str, Any]) -> Any:
        await (await self._exec(op)).wait()

    async def promote(self, op: dict[str, Any]) -> Any:
        await (await self._exec(op)).promote()

    async def result(self, op: dict[str, Any]) -> Any:
        return exec_result_to_json(await (await self._exec(op)).result())

    async def inspect(self, op: dict[str, Any]) -> Any:
        running = await self._exec(op)
        if "url" in op:
            return await running.save_json(op["url"])
        row = fold(await running.inspect_json())["inspect"]
        known = exec_inspect_from_json(row)
        return {
            "Inspect": {
                "Created": fold(row).get("created"),
                "Config": exec_config_to_json(known.config),
                "State": known.state,
                "Status": known.status,
            }
        }

    async def logs(self, op: dict[str, Any]) -> Any:
        names = ("stdout", "stderr", "follow")
        return await _text((await self._exec(op)).logs(**{name: bool(op.get(name)) for name in names}))

    async def remote_logs(self, op: dict[str, Any]) -> Any:
        where = await (await self._exec(op)).remote_logs(stdout=bool(op.get("stdout")))
        return {"Type": where.type, "LogGroupName": where.group, "LogStreamName": where.stream}

    async def shell(self, op: dict[str, Any]) -> Any:
        async def typed() -> AsyncIterator[bytes]:
            yield op["input"].encode()

        return await _text((await self._exec(op)).shell(typed()))

    async def load(self, op: dict[str, Any]) -> Any:
        return fileset_to_json(await self._alloc(op).load(op["url"], fileset_from_json(op["fileset"])))

    async def unload(self, op: dict[str, Any]) -> Any:
        await self._alloc(op).unload(fileset_from_json(op["fileset"]))

    async def verify(self, op: dict[str, Any]) -> Any:
        await self._alloc(op).verify(fileset_from_json(op["fileset"]))

    async def repo_put(self, op: dict[str, Any]) -> Any:
        data = base64.b64decode(op["base64"]) if "base64" in op else op["data"].encode()
        return str((await self._alloc(op).repository.put_bytes_many([data]))[0])

    async def repo_stat(self, op: dict[str, Any]) -> Any:
        file = await self._alloc(op).repository.stat(Digest.parse(op["id"]))
        return {"id": str(file.id), "size": file.size}

    async def repo_get(self, op: dict[str, Any]) -> Any:
        return await _text(self._alloc(op).repository.get(Digest.parse(op["id"])))

    async def repo_write_to(self, op: dict[str, Any]) -> Any:
        await self._alloc(op).repository.write_to(Digest.parse(op["id"]), op["url"])

    async def repo_read_from(self, op: dict[str, Any]) -> Any:
        await self._alloc(op).repository.read_from(Digest.parse(op["id"]), op["url"])

    async def repo_collect(self, op: dict[str, Any]) -> Any:
        live = BloomFilter(op["m"], op["k"], map(Digest.parse, op["live"]))
        await self._alloc(op).repository.collect(live)


def _offer(offer: AgentOffer) -> dict[str, Any]:
    return {"id": offer.id, "available": resources_to_json(Resources(offer.available))}


def _exec(running: AgentExec) -> dict[str, Any]:
    return {"id": str(running.id), "uri": running.uri}


async def _text(chunks: AsyncIterator[bytes]) -> str:
    return b"".join([chunk async for chunk in chunks]).decode()


async def main() -> None:
    tls = None
    if authority := os.environ.get("WIRE_CA"):
        tls = ssl.create_default_context(cafile=authority)
        tls.check_hostname = False
    client = Client(Rest(os.environ["WIRE_URL"].rstrip("/") + "/v1/", tls))
    operations = {"allocs": client.allocs_}
    for line in sys.stdin:
        op = json.loads(line)
        try:
            perform = operations.get(op["op"]) or getattr(client, op["op"])
            answer: dict[str, Any] = {"ok": await perform(op)}
        except ReflowError as err:
            answer = {"error": {"kind": kind_of(err).value, "text": str(err)}}
        print(json.dumps(answer), flush=True)
    await client.pool.close()


asyncio.run(main())
