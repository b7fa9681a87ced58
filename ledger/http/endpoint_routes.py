"""The routes of webhook endpoints."""

from ledger.http.endpoint_shapes import (
    DeliveryDetail,
    DeliveryPage,
    EndpointChange,
    EndpointCreated,
    EndpointPage,
    EndpointRequest,
    EndpointStatus,
    NoticePage,
    Recovered,
    RecoverRequest,
    ResendRequest,
    SecretCreated,
    SecretRequest,
)
from ledger.http.endpoints import Endpoints
from ledger.http.routes import CURSOR, LIMIT, Operation, Parameter

_GROUP = "Webhooks"
_ENDPOINT = Parameter("endpoint_id", "path", "The id given when the endpoint was made.")
_DELIVERY = Parameter("delivery_id", "path", "The id shown in the list of deliveries.")
_STATE = Parameter("state", "query", "Only deliveries in these states: pending, delivered, parked, held.")


def operations(endpoints: Endpoints) -> list[Operation]:
    return [
        Operation(
            method="POST",
            path="/v1/webhooks",
            handler=endpoints.create,
            summary="Make an endpoint. Its signing secret is shown once.",
            group=_GROUP,
            request=EndpointRequest,
            answers={201: ("The endpoint and its secret.", EndpointCreated)},
        ),
        Operation(
            method="GET",
            path="/v1/webhooks",
            handler=endpoints.all,
            summary="List endpoints, oldest first.",
            group=_GROUP,
            answers={200: ("All of them.", EndpointPage)},
        ),
        Operation(
            method="GET",
            path="/v1/webhooks/{endpoint_id}",
            handler=endpoints.get,
            summary="Read an endpoint and how it is doing.",
            group=_GROUP,
            parameters=(_ENDPOINT,),
            answers={200: ("The endpoint.", EndpointStatus)},
        ),
        Operation(
            method="PATCH",
            path="/v1/webhooks/{endpoint_id}",
            handler=endpoints.change,
            summary="Change, disable or enable an endpoint.",
            group=_GROUP,
            request=EndpointChange,
            parameters=(_ENDPOINT,),
            answers={200: ("The endpoint.", EndpointStatus)},
        ),
        Operation(
            method="DELETE",
            path="/v1/webhooks/{endpoint_id}",
            handler=endpoints.delete,
            summary="Delete an endpoint and its deliveries.",
            group=_GROUP,
            parameters=(_ENDPOINT,),
            answers={204: ("Deleted.", None)},
        ),
        Operation(
            method="POST",
            path="/v1/webhooks/{endpoint_id}/secrets",
            handler=endpoints.add_secret,
            summary="Replace the signing secret; the old one goes on signing for a while.",
            group=_GROUP,
            request=SecretRequest,
            parameters=(_ENDPOINT,),
            answers={201: ("The new secret, shown once.", SecretCreated)},
        ),
        Operation(
            method="GET",
            path="/v1/webhooks/{endpoint_id}/notices",
            handler=endpoints.notices,
            summary="List what happened to an endpoint, newest first.",
            group=_GROUP,
            parameters=(_ENDPOINT, LIMIT, CURSOR),
            answers={200: ("A page.", NoticePage)},
        ),
        Operation(
            method="GET",
            path="/v1/webhooks/{endpoint_id}/deliveries",
            handler=endpoints.deliveries,
            summary="List deliveries, newest change first.",
            group=_GROUP,
            parameters=(_ENDPOINT, _STATE, LIMIT, CURSOR),
            answers={200: ("A page.", DeliveryPage)},
        ),
        Operation(
            method="GET",
            path="/v1/webhooks/{endpoint_id}/deliveries/{delivery_id}",
            handler=endpoints.delivery,
            summary="Read a delivery with all its attempts.",
            group=_GROUP,
            parameters=(_ENDPOINT, _DELIVERY),
            answers={200: ("The delivery.", DeliveryDetail)},
        ),
        Operation(
            method="POST",
            path="/v1/webhooks/{endpoint_id}/deliveries/{delivery_id}/resend",
            handler=endpoints.resend,
            summary="Send a change again, whatever became of it.",
            group=_GROUP,
            request=ResendRequest,
            parameters=(_ENDPOINT, _DELIVERY),
            answers={202: ("The delivery, which is pending now.", DeliveryDetail)},
        ),
        Operation(
            method="POST",
            path="/v1/webhooks/{endpoint_id}/recover",
            handler=endpoints.recover,
            summary="Send everything since a time that was not delivered.",
            group=_GROUP,
            request=RecoverRequest,
            parameters=(_ENDPOINT,),
            answers={202: ("How many are pending now.", Recovered)},
        ),
    ]
