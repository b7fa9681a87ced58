"""Messages for the pages to show, told by callbacks and registrations as in life."""

import httpx

from tests.http.callbacks import meta, meta_failure, meta_status, new_sid, new_wamid, send, twilio
from tests.plugins.service import Service

#: Runs if a page takes it for markup, in any of the places that text can stand in.
HOSTILE = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>{{7*7}}</textarea><svg onload=alert(3)>&amp;"


def message_of(api: httpx.Client, provider_message_id: str) -> int:
    (message,) = api.get("/v1/messages", params={"provider_message_id": provider_message_id}).json()["items"]
    found: int = message["message_id"]
    return found


def told(service: Service, *callbacks: object) -> None:
    for callback in callbacks:
        assert send(service, callback).status_code == 200  # type: ignore[arg-type]


def a_read_message(service: Service, api: httpx.Client) -> int:
    """Delivered and read; what was sent twice, and what came late, are among its observations."""
    wamid = new_wamid()
    told(
        service,
        meta(meta_status(wamid, "sent", 0)),
        meta(meta_status(wamid, "read", 95)),
        meta(meta_status(wamid, "delivered", 4)),
        meta(meta_status(wamid, "read", 97)),
    )
    return message_of(api, wamid)


def a_failed_message(service: Service, api: httpx.Client) -> int:
    wamid = new_wamid()
    told(service, meta(meta_status(wamid, "sent", 0)), meta(meta_failure(wamid, 6)))
    return message_of(api, wamid)


def a_contested_message(service: Service, api: httpx.Client) -> int:
    wamid = new_wamid()
    told(
        service,
        meta(meta_status(wamid, "sent", 0)),
        meta(meta_status(wamid, "delivered", 5)),
        meta(meta_failure(wamid, 9)),
    )
    return message_of(api, wamid)


def a_hostile_message(service: Service, api: httpx.Client) -> int:
    """Every text that a provider or a sender can write is hostile."""
    wamid = new_wamid() + HOSTILE
    registered = api.post(
        "/v1/messages",
        json={
            "channel": "whatsapp",
            "provider_message_id": wamid,
            "recipient": HOSTILE[:64],
            "client_reference": HOSTILE,
            "conversation": {"conversation_id": HOSTILE},
            "metadata": {HOSTILE[:60]: HOSTILE},
        },
    )
    assert registered.status_code == 201, registered.text
    error = {"code": 999_999, "title": HOSTILE, "message": HOSTILE, "error_data": {"details": HOSTILE}}
    status = meta_status(wamid, "failed", 6, errors=[error], recipient_id=HOSTILE, biz_opaque_callback_data=HOSTILE)
    told(service, meta(status), meta(meta_status(wamid, HOSTILE[:40], 8)))
    found: int = registered.json()["message_id"]
    return found


def a_few_of_each(service: Service, whatsapp: httpx.Client, sms: httpx.Client) -> None:
    """Fill a list."""
    for _ in range(3):
        a_read_message(service, whatsapp)
    a_failed_message(service, whatsapp)
    a_contested_message(service, whatsapp)
    for status, more in (
        ("queued", {}),
        ("sent", {}),
        ("delivered", {}),
        ("undelivered", {"ErrorCode": "30003"}),
        ("failed", {"ErrorCode": "21610"}),
    ):
        told(service, twilio(new_sid(), status, **more))
    told(service, meta(meta_status(new_wamid(), "sent", 0)))
    sms.post("/v1/messages", json={"channel": "sms", "recipient": "+12025550178", "client_reference": "order-1078"})
