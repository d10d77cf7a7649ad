"""Addresses of objects that are good for a while: Signature Version 4 in the query, with the answer's headers chosen.

Source: AWS, "Authenticating Requests: Using Query Parameters". The object store's library signs such addresses too,
but not with `response-content-disposition`, without which a saved file would have its digest as its name.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlsplit

from nomoat.base.settings import BucketSettings

__all__ = ["signed_get"]

_ALGORITHM = "AWS4-HMAC-SHA256"


def signed_get(
    address: str, settings: BucketSettings, at: datetime, seconds: int, answer: Mapping[str, str]
) -> str:
    """`address` for a GET by anybody within `seconds` of `at` (UTC); the store answers with the headers in `answer`.

    `settings` must have keys.
    """
    parts, stamp = urlsplit(address), at.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/{settings.region}/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": _ALGORITHM, "X-Amz-Credential": f"{settings.access_key_id}/{scope}", "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds), "X-Amz-SignedHeaders": "host",
        **({"X-Amz-Security-Token": settings.session_token} if settings.session_token else {}),
        **{f"response-{name.lower()}": value for name, value in answer.items()},
    }  # fmt: skip
    text = "&".join(
        f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in sorted(query.items())
    )
    request = "\n".join(("GET", parts.path, text, f"host:{parts.netloc}", "", "host", "UNSIGNED-PAYLOAD"))
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{settings.secret_access_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), hashlib.sha256)
    signature = hmac.new(key, "\n".join((_ALGORITHM, stamp, scope, digest)).encode(), hashlib.sha256)
    return f"{address}?{text}&X-Amz-Signature={signature.hexdigest()}"
