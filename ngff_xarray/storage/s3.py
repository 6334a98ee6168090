"""S3 and what is compatible with it: by obstore where that is installed, else by s3fs.

Both take the ``storage_options`` of s3fs. obstore sends one GET a chunk, s3fs a HEAD before it.
"""

from __future__ import annotations

import atexit
import configparser
import os
import time
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from ngff_xarray.errors import StoreError
from ngff_xarray.storage.access import Access

_PASS_THEM = (
    "pass storage_options={'key': …, 'secret': …}, or set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY"
)
_ANONYMOUS = f"no credentials were found, so it was asked for anonymously; {_PASS_THEM}"
WITHOUT_CREDENTIALS = f"it was asked for without credentials; {_PASS_THEM}"
# the names of s3fs and botocore, and those of obstore
_NAMES = {
    "key": "access_key_id",
    "username": "access_key_id",
    "secret": "secret_access_key",
    "password": "secret_access_key",
    "token": "session_token",
    "endpoint_url": "endpoint",
    "region_name": "region",
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}
_NO_CONFIG = {"anon", "client_kwargs", "profile", "use_ssl", "verify"}
_MOMENT = 0.1  # seconds
_KNOWN = {*_NAMES, *_NAMES.values(), *_NO_CONFIG}


def is_for_obstore(access: Access) -> bool:
    """Tell whether obstore is installed and knows what the options say."""
    options = access.storage_options
    client = options.get("client_kwargs") or {}
    return (
        find_spec("obstore") is not None
        and set(options) <= _KNOWN
        and isinstance(options.get("verify"), bool | None)  # not a file of certificates
        and set(client) <= {*_NAMES, *_NAMES.values()}
    )


def open_store(url: str, access: Access, *, write: bool) -> tuple[Store, str]:
    """Return a store by obstore, and what to say where it may not be read."""
    from obstore.store import S3Store

    from ngff_xarray.storage.regions import RegionalStore

    config, hint = _config(access.storage_options)
    endpoint = config.get("endpoint", "")
    client: dict[str, Any] = {"timeout": f"{max(1, round(access.timeout))}s"}
    if endpoint.startswith("http://"):
        client["allow_http"] = True
    if access.storage_options.get("verify") is False:
        client["allow_invalid_certificates"] = True
    _exit_in_peace()
    store = S3Store.from_url(
        url.replace("s3a://", "s3://", 1),
        config=config,
        client_options=client,
        # the guard's to say; without one it tries as often as it does itself
        retry_config=None if write else {"max_retries": 0},
    )
    return RegionalStore(store, read_only=not write), hint


@cache
def _exit_in_peace() -> None:
    """Give obstore's threads a moment when Python ends.

    After the last answer they still let go of what they hold of Python; a process that ends
    meanwhile is aborted, though all of its work is done.
    """
    atexit.register(time.sleep, _MOMENT)


def _config(options: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Return obstore's words for options of s3fs, and a hint if there are no credentials."""
    given = {**options, **(options.get("client_kwargs") or {})}
    config = {
        _NAMES.get(name, name): value
        for name, value in given.items()
        if name not in ("client_kwargs", "anon", "profile", "use_ssl", "verify")
        and value is not None
    }
    if "endpoint" not in config and (endpoint := _endpoint()):
        config["endpoint"] = endpoint
    if "endpoint" in config:
        config["endpoint"] = str(config["endpoint"]).rstrip("/")
        config.setdefault("virtual_hosted_style_request", False)
        config.setdefault("region", os.environ.get("AWS_REGION", "us-east-1"))
    if options.get("anon"):
        return {**config, "skip_signature": True}, ""
    if "access_key_id" in config or _in_environment():
        return config, ""
    found = _from_file(options.get("profile"))
    if found:
        return {**found, **config}, ""
    return {**config, "skip_signature": True}, _ANONYMOUS


def for_s3fs(access: Access) -> tuple[dict[str, Any], str]:
    """Return the options for s3fs, anonymous where there are no credentials, and a hint then."""
    options = dict(access.storage_options)
    options.setdefault(
        "config_kwargs", {"retries": {"total_max_attempts": 1}}
    )  # the guard's to say
    if "endpoint_url" not in options and (endpoint := _endpoint()):
        options["endpoint_url"] = endpoint
    client = options.get("client_kwargs") or {}
    if "verify" in options:
        options["client_kwargs"] = {**client, "verify": options.pop("verify")}
    given = {**options, **client}
    named = any(_NAMES.get(name) == "access_key_id" for name in given)
    if named or "anon" in options or _in_environment() or _from_file(options.get("profile")):
        return options, ""
    return {**options, "anon": True}, _ANONYMOUS


def endpoint_of(options: Mapping[str, Any]) -> str:
    """Return the address of the server that options of s3fs or the environment name, if any."""
    given = {**options, **(options.get("client_kwargs") or {})}
    return str(given.get("endpoint_url") or given.get("endpoint") or _endpoint())


def _endpoint() -> str:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _in_environment() -> bool:
    """Tell whether the environment has credentials, or says where a machine's role has them."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE")
    containers = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")
    return any(name in os.environ for name in (*names, *containers))


def _from_file(profile: str | None) -> dict[str, str]:
    """Return the credentials of a profile in AWS's files; none if there are none."""
    wanted = profile or os.environ.get("AWS_PROFILE") or "default"
    path = os.environ.get("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path(path).expanduser(), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise StoreError(f"{path}: is no file of credentials: {error}") from error
    if not parser.has_section(wanted):
        if profile:
            raise StoreError(
                f"{path}: there is no profile {profile!r}; there are {parser.sections()}: name "
                "one of them, or give key and secret in storage_options"
            )
        return {}
    section = parser[wanted]
    return {_NAMES[name]: section[name] for name in section if name in _NAMES}
