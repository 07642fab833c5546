"""A server for one page and a browser on this machine, with bounds on all that is sent to it.

Pages of other sites can send requests here, too; Host, Origin and the content type, which they can't choose,
tell them apart. A connection is one request.
"""

import asyncio
import io
import json
import re
import secrets
from collections.abc import Callable
from email.message import Message
from http.client import HTTPException, parse_headers

from data import DataError
from utils.errors import UserError

HOST = "127.0.0.1"
LARGEST_HEAD, LARGEST_BODY = 16_384, 2_000_000  # bytes
CONNECTIONS, DEADLINE = 32, 10  # at a time; seconds for each
HEADERS = """\
Cache-Control: no-store
Connection: close
Content-Security-Policy: default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
img-src data:; connect-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'
Cross-Origin-Resource-Policy: same-origin
Referrer-Policy: no-referrer
X-Content-Type-Options: nosniff
X-Frame-Options: DENY
"""


def refusal(method: str, headers: Message) -> tuple[int, str] | None:
    """Return why a request is refused, as status and reason, or None."""

    def sent(name):
        return ",".join(headers.get_all(name, [])).strip().lower()  # of two, none is believed

    host, length = sent("Host"), sent("Content-Length")
    if not re.fullmatch(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", host):
        return 403, "Host is no name of this machine"
    if method != "POST":
        return None if method == "GET" else (405, "only GET and POST")
    if sent("Origin") not in ("", f"http://{host}") or sent("Sec-Fetch-Site") not in ("", "same-origin"):
        return 403, "sent by the page of another site"
    if sent("Content-Type").partition(";")[0].strip() != "application/json":
        return 415, "the content type is not application/json"
    if not re.fullmatch("[0-9]{1,18}", length) or sent("Transfer-Encoding"):
        return 411, "not one Content-Length, a number"
    return (413, f"more than {LARGEST_BODY:,} bytes") if int(length) > LARGEST_BODY else None


def pack(status: int, content: object, kind: str = "application/json", nonce: str = "") -> bytes:
    """Return a reply; content: text, or an object that is sent as JSON."""
    sent = (content if isinstance(content, str) else json.dumps(content)).encode()
    head = f"HTTP/1.1 {status} \n{HEADERS.replace('{nonce}', nonce)}"
    head += f"Content-Type: {kind}\nContent-Length: {len(sent)}\n\n"
    return head.replace("\n", "\r\n").encode() + sent


async def reply(reader: asyncio.StreamReader, html: str, answers: dict[str, Callable]) -> bytes:
    """Read a request and return the reply: `html` with its nonce, an answer or {"error": reason}.

    answers: by name, functions from a JSON value to a JSON object. They raise DataError for an error the user
    can fix, ValueError for what the page never sends.
    """
    try:
        first, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
        headers = parse_headers(io.BytesIO(rest))
    except (asyncio.LimitOverrunError, HTTPException):
        return pack(431, {"error": "request header too long"})
    line = re.fullmatch(r"([A-Z]{1,9}) (/[^ ?]*)(\?[^ ]*)? HTTP/1\.[01]", first.decode("latin-1"))
    if not line:
        return pack(400, {"error": "not a request"})
    method, question = line[1], line[2][1:]
    if refused := refusal(method, headers):
        return pack(refused[0], {"error": refused[1]})
    if method == "GET" and not question:
        nonce = secrets.token_urlsafe(16)
        return pack(200, html.replace("{nonce}", nonce), "text/html; charset=utf-8", nonce)
    if method == "GET" or question not in answers:
        return pack(404, {"error": "not found"})
    body = await reader.readexactly(int(headers["Content-Length"]))
    try:
        return pack(200, await asyncio.to_thread(answers[question], json.loads(body)))
    except DataError as error:
        return pack(200, {"error": str(error)})
    except (ValueError, RecursionError) as error:
        return pack(400, {"error": f"not a request of this page: {error}"})


async def serve(html: str, answers: dict[str, Callable], port: int, ready: Callable) -> None:
    """Serve on HOST for ever; ready: called with the port, which is any free one for port 0."""
    opened = 0

    async def connect(reader, writer):
        nonlocal opened
        opened += 1
        writer.transport.set_write_buffer_limits(0)  # so that drain() waits until all is sent
        try:
            async with asyncio.timeout(DEADLINE):
                busy = pack(503, {"error": "too many connections"}) if opened > CONNECTIONS else None
                writer.write(busy or await reply(reader, html, answers))
                await writer.drain()
        except (OSError, EOFError):
            pass  # the browser was closed, or is too slow
        finally:
            opened -= 1
            writer.transport.abort()

    try:
        server = await asyncio.start_server(connect, HOST, port, limit=LARGEST_HEAD)
    except OSError as error:
        raise UserError(f"port {port} can't be used ({error.strerror}): choose another --port") from error
    ready(server.sockets[0].getsockname()[1])
    await server.serve_forever()
