"""Buckets in other regions than the one that was asked: AWS says which, and is asked there."""

from __future__ import annotations

import re
from typing import Any

from obstore.store import S3Store
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import ObjectStore

_NAME = re.compile(r"[a-z0-9-]{1,64}")
_NAMED = re.compile(rf"(?:<Region>|expecting ')({_NAME.pattern})[<']")
_ELSEWHERE = ("redirect without location", "permanentredirect")
_DEFAULT = "us-east-1"

_regions: dict[tuple[str, str], str] = {}  # those that were found out, by endpoint and bucket


class RegionalStore(ObjectStore[Any]):
    """A store of obstore that goes to the region of its bucket when it was asked in another one.

    https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
    """

    def __init__(self, store: Any, *, read_only: bool = False) -> None:
        known = _regions.get(_place(store))
        super().__init__(_moved(store, known) if known else store, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return what stands under a key, or None if there is no such key."""
        asked = self.store
        try:
            return await super().get(key, prototype, byte_range)
        except Exception as error:
            if self.store is asked:  # or another request has found out meanwhile
                region = await _region(asked, str(error))
                if region in (None, asked.config.get("region")):
                    raise
                _regions[_place(asked)] = region
                self.store = _moved(asked, region)
        return await super().get(key, prototype, byte_range)


def _place(store: Any) -> tuple[str, str]:
    return store.config.get("endpoint", ""), store.config["bucket"]


def _moved(store: Any, region: str) -> Any:
    """Return the same store in another region."""
    return S3Store(
        prefix=store.prefix,
        config={**store.config, "region": region},
        client_options=store.client_options,
        retry_config=store.retry_config,
    )


async def _region(store: Any, said: str) -> str | None:
    """Return the region that an error names, or the server for one that says "not here"."""
    import aiohttp

    if match := _NAMED.search(said):
        return match[1]
    if not any(words in said.lower() for words in _ELSEWHERE):
        return None
    endpoint, bucket = _place(store)
    host = endpoint or f"https://s3.{store.config.get('region', _DEFAULT)}.amazonaws.com"
    asking = aiohttp.ClientSession(trust_env=True)  # as obstore goes through proxies
    try:
        async with asking, asking.head(f"{host}/{bucket}", allow_redirects=False) as answer:
            found = answer.headers.get("x-amz-bucket-region", "")
    except aiohttp.ClientError:  # what was said first is the truer fault
        return None
    return found if _NAME.fullmatch(found) else None
