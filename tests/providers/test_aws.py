"""Amazon's own rules: a signature counts with a topic of ours and a certificate of SNS; offers; last words."""

import json
from typing import Any

import msgspec
import pytest

from ledger.domain.observation import Observation
from ledger.domain.status import Channel, Status
from ledger.providers import PROVIDERS
from ledger.wire.contract import Account, Parsed
from tests.providers.requests import TOPIC, a_webhook, an_account
from tests.providers.senders_more import (
    CERTIFICATE_URL,
    aws_event,
    configured_certificate,
    sign_aws,
    sign_sns,
    sns_envelope,
)

AWS = PROVIDERS["aws"]
CERTIFICATE = configured_certificate(b"secret")
ACCOUNT = an_account("aws", CERTIFICATE)
MESSAGE = json.dumps(aws_event()).encode()
CONFIRM_URL = f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn={TOPIC}&Token=t"


def fetching(certificate: bytes | None) -> Account:
    """Return an account without certificates of its own, for which this one is at hand."""
    return an_account("aws", certificates=lambda url: certificate)


def parse(**event: Any) -> Parsed:
    return AWS.parse(sign_aws(json.dumps(aws_event() | event).encode(), b"secret"), ACCOUNT)


def observed(**event: Any) -> Observation:
    (observation,) = parse(**event).observations
    return observation


def an_offer(**changed: str) -> dict[str, str]:
    told = {"Type": "SubscriptionConfirmation", "Token": "t", "SubscribeURL": CONFIRM_URL}
    return sns_envelope(b"You have chosen to subscribe.", **(told | changed))


# Authentication


@pytest.mark.parametrize("version", ["1", "2"])
def test_both_versions_of_the_signature_are_understood(version):
    assert AWS.authenticate(sign_sns(sns_envelope(MESSAGE, SignatureVersion=version), b"secret"), ACCOUNT)


@pytest.mark.parametrize("version", ["", "0", "3", "SHA256"])
def test_no_other_version_is(version):
    told = json.loads(sign_sns(sns_envelope(MESSAGE, SignatureVersion="2"), b"secret").body)

    assert not AWS.authenticate(a_webhook(json.dumps(told | {"SignatureVersion": version}).encode()), ACCOUNT)


@pytest.mark.parametrize("topic", ["", "arn:aws:sns:eu-west-1:999999999999:sms-events", f"{TOPIC} ", TOPIC.upper()])
def test_a_genuine_signature_from_another_topic_is_refused(topic):
    assert not AWS.authenticate(sign_sns(sns_envelope(MESSAGE, TopicArn=topic), b"secret"), ACCOUNT)


HOSTS = [
    "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0.pem",
    "https://evil.example/sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-0.pem",
    "https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
    "https://bucket.s3.amazonaws.com/SimpleNotificationService-0.pem",
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem/../../x",
    "https://sns.eu-west-1.amazonaws.com/anything.pem",
    "https://sns.eu-west-1.amazonaws.com\\@evil.example/SimpleNotificationService-0.pem",
    "https://[::1/SimpleNotificationService-0.pem",
    "//sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
    "",
]


@pytest.mark.parametrize("url", HOSTS)
def test_a_certificate_from_anywhere_else_is_neither_trusted_nor_fetched(url):
    asked: list[str] = []
    account = an_account("aws", certificates=asked.append)
    request = sign_sns(sns_envelope(MESSAGE, SigningCertURL=url), b"secret")

    assert not AWS.authenticate(request, ACCOUNT)
    assert not AWS.authenticate(request, account)
    assert not AWS.asks_again(request, account)
    assert asked == []


@pytest.mark.parametrize(
    "host", ["sns.us-east-1.amazonaws.com", "sns.us-gov-west-1.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn"]
)
def test_sns_has_addresses_in_many_regions(host):
    url = f"https://{host}/SimpleNotificationService-0123456789abcdef.pem"

    assert AWS.authenticate(sign_sns(sns_envelope(MESSAGE, SigningCertURL=url), b"secret"), ACCOUNT)


def test_a_subject_is_signed_where_there_is_one():
    request = sign_sns(sns_envelope(MESSAGE, Subject="s"), b"secret")
    told = json.loads(request.body)

    assert AWS.authenticate(request, ACCOUNT)
    assert not AWS.authenticate(a_webhook(json.dumps(told | {"Subject": "t"}).encode()), ACCOUNT)
    del told["Subject"]
    assert not AWS.authenticate(a_webhook(json.dumps(told).encode()), ACCOUNT)


def test_a_certificate_that_is_at_hand_is_used_and_the_request_is_not_asked_for_again():
    request, account = sign_aws(MESSAGE, b"secret"), fetching(CERTIFICATE)

    assert AWS.authenticate(request, account)
    assert not AWS.asks_again(request, account)


def test_a_request_whose_certificate_is_not_at_hand_yet_is_asked_for_again():
    request, account = sign_aws(MESSAGE, b"secret"), fetching(None)

    assert not AWS.authenticate(request, account)
    assert AWS.asks_again(request, account)


def test_the_address_of_the_certificate_is_what_is_asked_for():
    asked: list[str] = []

    AWS.authenticate(sign_aws(MESSAGE, b"secret"), an_account("aws", certificates=asked.append))

    assert asked == [CERTIFICATE_URL]


def test_a_forged_request_is_refused_once_the_certificate_is_at_hand():
    request, account = sign_aws(MESSAGE, b"another"), fetching(CERTIFICATE)

    assert not AWS.authenticate(request, account)
    assert not AWS.asks_again(request, account)


def test_with_certificates_of_its_own_an_account_fetches_none():
    asked: list[str] = []
    account = an_account("aws", configured_certificate(b"old"), certificates=asked.append)

    assert not AWS.authenticate(sign_aws(MESSAGE, b"secret"), account)
    assert not AWS.asks_again(sign_aws(MESSAGE, b"secret"), account)
    assert asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"Type":"Notification"}', MESSAGE])
def test_raw_delivery_has_no_signature_and_is_refused(body):
    account = fetching(CERTIFICATE)

    assert not AWS.authenticate(a_webhook(body), account)
    assert not AWS.asks_again(a_webhook(body), account)


@pytest.mark.parametrize("secret", [b"", b"secret", b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----"])
def test_what_is_no_certificate_is_told(secret):
    assert "certificate" in AWS.check_secret(secret, ACCOUNT)
    assert AWS.check_secret(CERTIFICATE, ACCOUNT) is None


def test_an_account_must_name_its_topics():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({}, AWS.options)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"topics": []}, AWS.options)


# Offers


def test_the_offer_of_a_subscription_is_passed_on():
    parsed = AWS.parse(sign_sns(an_offer(), b"secret"), ACCOUNT)

    assert (parsed.confirm_url, parsed.observations, parsed.unreadable) == (CONFIRM_URL, (), ())


@pytest.mark.parametrize(
    "url",
    [
        *HOSTS,
        f"https://sns.eu-west-1.amazonaws.com/?Action=Publish&TopicArn={TOPIC}&Message=x",
        "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=arn:aws:sns:eu-west-1:9:theirs&Token=t",
        f"https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Action=Publish&TopicArn={TOPIC}&Token=t",
    ],
)
def test_an_offer_with_an_address_that_does_anything_else_is_not(url):
    assert AWS.parse(sign_sns(an_offer(SubscribeURL=url), b"secret"), ACCOUNT).confirm_url is None


def test_a_notification_never_offers_anything():
    request = sign_sns(sns_envelope(MESSAGE, SubscribeURL=CONFIRM_URL), b"secret")

    assert AWS.parse(request, ACCOUNT).confirm_url is None


def test_the_end_of_a_subscription_is_an_alert():
    told = sns_envelope(b"bye", Type="UnsubscribeConfirmation", Token="t", SubscribeURL=CONFIRM_URL)

    parsed = AWS.parse(sign_sns(told, b"secret"), ACCOUNT)

    assert (parsed.alerts, parsed.confirm_url) == (("unsubscribed",), None)


# Events


@pytest.mark.parametrize(("is_final", "closes"), [(True, True), (False, False), (None, False), ("true", False)])
def test_success_at_the_carrier_is_the_last_word_only_where_the_event_says_so(is_final, closes):
    claim = observed(eventType="TEXT_SUCCESSFUL", isFinal=is_final).claim

    assert (claim.status, claim.closes) == (Status.SENT, closes)


@pytest.mark.parametrize("is_final", [True, False, None])
def test_a_message_of_which_the_carrier_never_said_anything_is_over(is_final):
    assert observed(eventType="TEXT_UNKNOWN", isFinal=is_final).claim.closes


@pytest.mark.parametrize(
    ("told", "expected"), [("DELIVERED", None), ("PENDING", None), ("CARRIER_BLOCKED", "CARRIER_BLOCKED")]
)
def test_a_state_is_no_error(told, expected):
    assert expected == observed(messageStatus=told).error_code


def test_an_event_by_way_of_eventbridge_is_inside_another_and_has_no_recipient():
    event = {name: value for name, value in aws_event().items() if name != "destinationPhoneNumber"}
    message = json.dumps({"detail-type": "Text Message Delivery Status Updated", "detail": event}).encode()

    (observation,) = AWS.parse(sign_aws(message, b"secret"), ACCOUNT).observations

    assert (observation.reference, observation.recipient) == ("0a1b", None)


@pytest.mark.parametrize("event_type", ["VOICE_COMPLETED", "REGISTRATION_STATUS_CHANGE"])
def test_an_event_of_another_product_is_ignored(event_type):
    assert parse(eventType=event_type, messageId=None).ignored == 1


def test_the_evidence_is_the_event_and_not_the_envelope():
    assert observed().item == json.dumps(aws_event()).encode()


@pytest.mark.parametrize(
    ("event_type", "transport"), [("TEXT_DELIVERED", None), ("MEDIA_DELIVERED", "mms"), ("RCS_READ", "rcs")]
)
def test_the_kind_of_an_event_tells_the_way_of_a_message(event_type, transport):
    told = observed(eventType=event_type)

    assert (told.channel, told.transport) == (Channel.SMS, transport)


@pytest.mark.parametrize("is_final", [True, False])
def test_an_mms_that_the_carrier_took_is_closed_only_where_the_event_is_final(is_final):
    assert observed(eventType="MEDIA_SUCCESSFUL", isFinal=is_final).claim.closes is is_final
