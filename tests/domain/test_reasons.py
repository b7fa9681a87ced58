"""The failure catalogue: every row is sound, every known wording is recognised, and nothing unknown is guessed."""

import csv
import hashlib
import re
import time
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ledger.domain import reasons
from ledger.domain.reasons import CATALOGUE_VERSION, Category, Reason, RetryClass, Stage, explain
from ledger.domain.status import FailureKind
from ledger.providers import PROVIDERS

DOC = Path(__file__).parents[2] / "docs" / "failure-reasons.md"
CATALOGUE = resources.files("ledger.domain").joinpath("catalogue")
FILES = ("codes.csv", "advice.csv", "texts.csv", "aliases.csv")

#: The data as of this version. Whoever changes the data raises the version and writes both here.
KNOWN_VERSION = ("2026-11-25.1", "0e4bbde796cd241e")

#: Who has codes of its own. Viber Business is a product that partners sell; its codes are those of its own interface.
SEEDED_PROVIDERS = (
    *("twilio", "meta", "viber", "viber_business", "vonage", "sinch"),
    *("telnyx", "plivo", "messagebird", "infobip", "aws", "gupshup"),
)


def rows(name: str) -> list[dict[str, str]]:
    with CATALOGUE.joinpath(name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def from_provider(
    code: str | None = None, text: str | None = None, provider: str = "twilio", kind: FailureKind | None = None
) -> Reason:
    return explain(provider=provider, code=code, text=text, kind=kind, sender=False)


def from_sender(text: str | None = None, code: str | None = None, provider: str = "twilio") -> Reason:
    return explain(provider=provider, code=code, text=text, kind=FailureKind.FAILED, sender=True)


CODES, ADVICE, TEXTS, ALIASES = (rows(name) for name in FILES)
CODED = [row for row in CODES if row["code"] != reasons.UNCODED]
each_text = pytest.mark.parametrize("row", TEXTS, ids=lambda row: row["key"])


# The data -------------------------------------------------------------------------------------------------------------


def test_rows_use_the_vocabulary_and_name_an_advice() -> None:
    keys = {row["key"] for row in ADVICE}

    for row in [*CODES, *TEXTS]:
        assert row["category"] in set(Category), row
        assert row["retry"] in set(RetryClass), row
        assert row["advice"] in keys, row


def test_rows_with_a_general_advice_have_that_category_and_class() -> None:
    for row in [*CODES, *TEXTS]:
        assert ":" not in row["advice"] or row["advice"] == f"{row['category']}:{row['retry']}", row


def test_title_is_a_line_and_meaning_a_sentence() -> None:
    for row in [*CODES, *TEXTS]:
        assert len(row["title"]) <= 64, row
        assert not row["title"].endswith("."), row
        assert len(row["meaning"]) <= 200, row
        assert row["meaning"].endswith("."), row


def test_wording_does_not_claim_that_a_recipient_does_not_exist() -> None:
    claim = re.compile(r"(number|recipient) (does not|doesn't|no longer) exist")

    assert not [row for row in [*CODES, *TEXTS] if row["category"] == "recipient" and claim.search(str(row))]


def test_no_field_is_empty_but_the_waits() -> None:
    assert not [row for row in [*CODES, *TEXTS] if not all(row.values())]
    assert not [row for row in ADVICE if not (row["key"] and row["advice"])]


def test_every_line_has_as_many_fields_as_the_header() -> None:
    for name in FILES:
        lines = list(csv.reader(CATALOGUE.joinpath(name).read_text(encoding="utf-8").splitlines(), strict=True))
        assert {len(lines[0])} == {len(line) for line in lines}, name


def test_no_code_key_or_advice_occurs_twice() -> None:
    codes = [(row["provider"], row["code"]) for row in CODES]
    keys = [row["key"] for row in TEXTS]
    advice = [row["key"] for row in ADVICE]

    assert len(codes) == len(set(codes))
    assert len(keys) == len(set(keys))
    assert len(advice) == len(set(advice))


def test_every_provider_is_spelled_as_known() -> None:
    assert set(SEEDED_PROVIDERS) == {row["provider"] for row in CODES}


def test_every_provider_with_codes_can_be_configured() -> None:
    known = set(PROVIDERS) | {"viber_business"}

    assert {row["provider"] for row in [*CODES, *ALIASES]} <= known


@pytest.mark.parametrize("provider", ["dialog360", "gupshup"])
def test_a_provider_that_passes_on_the_codes_of_another_explains_them_alike(provider: str) -> None:
    assert from_provider("131026", provider="meta").recognised
    assert from_provider("131026", provider=provider) == from_provider("131026", provider="meta")


def test_codes_of_its_own_go_before_those_that_a_provider_passes_on() -> None:
    assert from_provider("1003", provider="gupshup").category is Category.ACCOUNT
    assert from_provider("1003", provider="gupshup") != from_provider("1003", provider="meta")


@pytest.mark.parametrize("listed", [[("new", "nobody")], [("new", "meta"), ("new", "meta")]])
def test_a_faulty_alias_is_refused(monkeypatch: pytest.MonkeyPatch, listed: list[tuple[str, str]]) -> None:
    faulty = [{"provider": provider, "same_as": other} for provider, other in listed]
    monkeypatch.setattr(reasons, "_rows", lambda name: iter(faulty))

    with pytest.raises(ValueError, match=r"aliases\.csv"):
        reasons._read_aliases({"meta": {}})


def test_every_advice_is_used() -> None:
    used = {row["advice"] for row in [*CODES, *TEXTS]} | {"unknown:unknown"}

    assert used == {row["key"] for row in ADVICE}


def test_waits_belong_to_transient_reasons_only() -> None:
    for row in CODED:
        retry = from_provider("200" if row["code"] == "200-299" else row["code"], provider=row["provider"]).retry
        assert (retry.class_ is RetryClass.TRANSIENT) is (retry.after_seconds is not None), row


def test_changed_data_has_a_new_version() -> None:
    digest = hashlib.sha256(b"".join(CATALOGUE.joinpath(name).read_bytes() for name in FILES)).hexdigest()[:16]

    assert (CATALOGUE_VERSION, digest) == KNOWN_VERSION, "raise CATALOGUE_VERSION and note the new digest here"


def test_a_faulty_row_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = {
        "provider": "p", "code": "1", "category": "network", "retry": "transient",
        "advice": "network:transient", "title": "T", "meaning": "M.",
    }  # fmt: skip
    faults: list[list[dict[str, str]]] = [
        [good, good],
        [good | {"category": "weather"}],
        [good | {"retry": "perhaps"}],
        [good | {"advice": "network:fix_input"}],
    ]

    for fault in faults:
        monkeypatch.setattr(reasons, "_rows", lambda name, fault=fault: iter(fault))
        with pytest.raises(ValueError, match=r"."):
            reasons._read_codes()


# Codes ----------------------------------------------------------------------------------------------------------------


def test_every_code_is_recognised() -> None:
    for row in CODED:
        code = "200" if row["code"] == "200-299" else row["code"]
        reason = from_provider(code, provider=row["provider"])

        assert reason.recognised, row
        assert (Stage.PROVIDER, code, row["title"]) == (reason.stage, reason.code, reason.title)
        assert (row["category"], row["retry"], row["meaning"]) == (reason.category, reason.retry.class_, reason.text)


@pytest.mark.parametrize("code", ["30003", " 30003 ", "30003\n", "030003", "+30003", "30003.0", 30003])
def test_code_is_tolerated_in_any_plain_writing(code: str) -> None:
    assert from_provider("30003") == from_provider(code)


def test_negative_code_is_not_a_span() -> None:
    assert from_provider("-1", provider="viber").recognised


@pytest.mark.parametrize("code", ["200", "201", "245", "299"])
def test_meta_2xx_is_one_family(code: str) -> None:
    reason = from_provider(code, provider="meta")

    assert reason.recognised
    assert code == reason.code
    assert RetryClass.FIX_PERMISSION is reason.retry.class_


@pytest.mark.parametrize("code", ["199", "300", "200-299"])
def test_meta_2xx_ends_where_it_ends(code: str) -> None:
    assert not from_provider(code, provider="meta").recognised


def test_same_number_means_different_things_at_different_providers() -> None:
    assert from_provider("1000", provider="meta").category is Category.CONTENT
    assert from_provider("1000", provider="vonage").category is Category.RATE_LIMIT


@pytest.mark.parametrize("code", ["99999", "EC_NEW", "💥", "30003; DROP TABLE"])
def test_unknown_code_is_shown_raw(code: str) -> None:
    reason = from_provider(code, "  Some words of the provider. ")

    assert not reason.recognised
    assert code in reason.title
    assert reason.text == "  Some words of the provider. "
    assert (code, Category.UNKNOWN) == (reason.code, reason.category)
    assert (reason.retry.class_, reason.retry.after_seconds) == (RetryClass.UNKNOWN, None)


def test_unknown_code_is_not_explained_by_a_known_text() -> None:
    assert not from_provider("99999", "Invalid Phone number.").recognised


def test_unknown_code_without_a_text_says_so() -> None:
    assert "99999" in from_provider("99999").text


def test_known_code_of_an_unknown_provider_is_unknown() -> None:
    assert not from_provider("30003", provider="carrier-pigeon").recognised


def test_overlong_code_is_shortened_in_the_title_only() -> None:
    reason = from_provider("9" * 5000)

    assert len(reason.title) < 120
    assert reason.code == "9" * 5000


def test_own_words_of_the_provider_replace_our_meaning_and_nothing_else() -> None:
    ours, theirs = from_provider("30007"), from_provider("30007", "Message filtered by carrier X")

    assert msgspec.structs.replace(ours, text="Message filtered by carrier X") == theirs


def test_blank_text_is_no_text() -> None:
    assert from_provider("30007") == from_provider("30007", " \n\t ")


@pytest.mark.parametrize("blank", [None, "", " \n"])
@pytest.mark.parametrize("kind", [None, *FailureKind])
@pytest.mark.parametrize("provider", ["twilio", "viber", ""])
def test_no_code_and_no_text_says_that_no_reason_was_given(
    blank: str | None, kind: FailureKind | None, provider: str
) -> None:
    reason = from_provider(blank, blank, provider, kind)

    assert not reason.recognised
    assert reason.text.endswith("gave no reason.")
    assert (reason.code, reason.title) == (None, "No reason given")


def test_waits_are_longer_where_a_short_one_is_useless() -> None:
    waits = {
        code: from_provider(code).retry.after_seconds for code in ("30500", "30003", "30450", "63049", "30023", "30610")
    }

    assert waits == {"30500": 30, "30003": 7200, "30450": 900, "63049": 86400, "30023": 86400, "30610": 43200}


def test_plain_transient_failure_waits_30_to_60_seconds() -> None:
    retry = from_provider("30500").retry

    assert (retry.after_seconds, retry.after_seconds_max) == (30, 60)


@pytest.mark.parametrize(
    ("provider", "code"),
    [("twilio", "30009"), ("twilio", "30038"), ("twilio", "30039"), ("meta", "131052"), ("meta", "400")],
)
def test_code_about_an_inbound_message_blames_no_recipient(provider: str, code: str) -> None:
    assert from_provider(code, provider=provider).retry.class_ is RetryClass.UNKNOWN


def test_uncoded_viber_failure_is_the_app_that_refused_it() -> None:
    reason = from_provider(None, "Video is too long", "viber", FailureKind.UNDELIVERED)

    assert reason.recognised
    assert (reason.category, reason.retry.class_) == (Category.CONTENT, RetryClass.FIX_INPUT)
    assert (reason.code, reason.text) == (None, "Video is too long")


def test_marker_for_uncoded_failures_is_not_a_code() -> None:
    assert not from_provider(reasons.UNCODED, provider="viber").recognised


# Texts ----------------------------------------------------------------------------------------------------------------

V, H = Stage.VALIDATION, Stage.HANDOFF
FIX, ALLOW = RetryClass.FIX_INPUT, RetryClass.FIX_PERMISSION
LATER, NEVER = RetryClass.TRANSIENT, RetryClass.RECIPIENT_PERMANENT

#: As the product's own documentation words them.
DOCUMENTED = [
    ("Phone number is missing.", V, Category.RECIPIENT, FIX),
    ("Invalid Phone number.", V, Category.RECIPIENT, FIX),
    ("Your Lead or User does not have a Phone Number associated with them.", V, Category.RECIPIENT, FIX),
    ("recipient not on WhatsApp", H, Category.RECIPIENT, NEVER),
    ("landline", H, Category.RECIPIENT, NEVER),
    ("unreachable", H, Category.RECIPIENT, NEVER),
    ("Your origin sending Channel / Number is unknown to us.", H, Category.ACCOUNT, ALLOW),
    ("Deprecated API key.", H, Category.ACCOUNT, ALLOW),
    ("too many requests", H, Category.RATE_LIMIT, LATER),
    ("Template does not exist or is not approved", H, Category.TEMPLATE, ALLOW),
    ("Invalid header media URL.", V, Category.CONTENT, FIX),
    ("The number of variables you supplied does not match the template.", V, Category.TEMPLATE, FIX),
    ("WhatsApp provider error", H, Category.PROVIDER, LATER),
    ("SMS provider error", H, Category.PROVIDER, LATER),
    ("VBM provider error", H, Category.PROVIDER, LATER),
    ("Recipient's phone number is not a valid WhatsApp user.", H, Category.RECIPIENT, NEVER),
    ("The 24-hour messaging window has closed (for non-template sends).", H, Category.TEMPLATE, FIX),
    ("The template is not approved for the recipient's country.", H, Category.TEMPLATE, ALLOW),
    ("The template was deactivated after the send was queued.", H, Category.TEMPLATE, FIX),
    ("The recipient blocked your WhatsApp number.", H, Category.RECIPIENT, NEVER),
    ("The phone number is not a valid mobile subscriber.", H, Category.RECIPIENT, NEVER),
    ("The carrier blocked the message for content or sender reputation reasons.", H, Category.CONTENT, FIX),
    ("The recipient's handset is out of coverage or powered off for too long.", H, Category.RECIPIENT, LATER),
    ("The sender number is not approved to deliver to the recipient's country.", H, Category.ACCOUNT, ALLOW),
]
each_documented = pytest.mark.parametrize(("text", "stage", "category", "retry"), DOCUMENTED)


@each_documented
def test_documented_text_of_the_sender_is_recognised(
    text: str, stage: Stage, category: Category, retry: RetryClass
) -> None:
    reason = from_sender(text)

    assert reason.recognised
    assert (stage, category, retry) == (reason.stage, reason.category, reason.retry.class_)
    assert (text, None) == (reason.text, reason.code)


@each_documented
def test_documented_text_of_a_provider_is_recognised_at_the_stage_provider(
    text: str, stage: Stage, category: Category, retry: RetryClass
) -> None:
    reason = from_provider(None, text)

    assert reason.recognised
    assert (Stage.PROVIDER, category, retry) == (reason.stage, reason.category, reason.retry.class_)


@each_documented
def test_case_blanks_quotes_and_final_punctuation_do_not_matter(
    text: str, stage: Stage, category: Category, retry: RetryClass
) -> None:
    twisted = " \u201c" + text.upper().rstrip(".").replace("'", "\u2019").replace(" ", "  ") + "!\u201d\n"

    assert msgspec.structs.replace(from_sender(text), text=twisted) == from_sender(twisted)


@each_text
def test_every_pattern_is_recognised_as_its_own_row(row: dict[str, str]) -> None:
    for pattern in row["patterns"].split("|"):
        assert row["title"] == from_sender(pattern.replace("*", "")).title, pattern


@each_text
def test_key_of_a_text_is_a_code_of_the_sender_only(row: dict[str, str]) -> None:
    reason = from_sender(code=row["key"])

    assert (row["key"], row["title"], row["meaning"], row["stage"]) == (
        reason.code, reason.title, reason.text, reason.stage,
    )  # fmt: skip
    assert not from_provider(row["key"]).recognised


#: What the documentation lists as common failures is what the fitting codes are called.
@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Recipient's phone number is not a valid WhatsApp user.", [("meta", "1013")]),
        ("The 24-hour messaging window has closed", [("meta", "131047"), ("meta", "470"), ("twilio", "63016")]),
        ("The template was deactivated after the send was queued.", [("meta", "132016"), ("twilio", "63042")]),
        ("The recipient blocked your WhatsApp number.", [("twilio", "63014"), ("viber_business", "8")]),
        ("The carrier blocked the message for content or sender reputation reasons.", [("twilio", "30007")]),
        ("The phone number is not a valid mobile subscriber.", [("twilio", "21614")]),
        ("The recipient's handset is out of coverage or powered off for too long.", [("twilio", "30003")]),
        ("The sender number is not approved to deliver to the recipient's country.", [("twilio", "30040")]),
    ],
)
def test_common_failures_and_the_fitting_codes_are_explained_alike(text: str, codes: list[tuple[str, str]]) -> None:
    told = from_sender(text)

    for provider, code in codes:
        known = from_provider(code, provider=provider)
        assert (told.category, told.retry, told.advice) == (known.category, known.retry, known.advice), code
        assert told.title.split()[0] in known.title, code


@pytest.mark.parametrize(
    "text",
    [
        "Too Many Requests. Retry at 2026-11-21T10:00:00Z",
        "too many requests (until 2026-11-21T12:00:00.000+02:00)",
    ],
)
def test_rate_limit_waits_until_the_instant_in_the_text(text: str) -> None:
    retry = from_sender(text).retry

    assert datetime(2026, 11, 21, 10, tzinfo=UTC) == retry.until
    assert (retry.after_seconds, retry.after_seconds_max) == (30, 60)


@pytest.mark.parametrize(
    "instant",
    ["2026-13-45T10:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-11-21T10:00:00", "soon"],
)
def test_odd_instant_is_ignored(instant: str) -> None:
    reason = from_sender(f"Too many requests, retry at {instant}")

    assert reason.recognised
    assert reason.retry.until is None


def test_only_a_rate_limit_takes_an_instant_from_the_text() -> None:
    assert from_sender("WhatsApp provider error: at 2026-11-21T10:00:00Z").retry.until is None


def test_sender_passing_on_a_provider_code_failed_at_the_handoff() -> None:
    reason = from_sender(code="21211", text="The 'To' number is not valid")

    assert (reason.stage, reason.code, reason.category) == (Stage.HANDOFF, "21211", Category.RECIPIENT)


def test_own_words_of_the_sender_go_before_a_number_that_a_provider_uses_too() -> None:
    reason = from_sender("Deprecated API key.", code="6", provider="viber")

    assert (reason.category, reason.retry.class_, reason.code) == (Category.ACCOUNT, ALLOW, "6")


@pytest.mark.parametrize("text", ["Callback URL unreachable for this host", "Not a landline problem", "…", "x" * 301])
def test_text_that_only_resembles_a_known_one_is_not_recognised(text: str) -> None:
    reason = from_sender(text)

    assert not reason.recognised
    assert (Stage.HANDOFF, text) == (reason.stage, reason.text)


def test_sender_without_a_reason_says_so() -> None:
    reason = from_sender()

    assert not reason.recognised
    assert (reason.stage, reason.title) == (Stage.HANDOFF, "No reason given")
    assert "no reason was given" in reason.text


# Laws -----------------------------------------------------------------------------------------------------------------

words = st.text() | st.sampled_from([text for text, *_ in DOCUMENTED])
numbers = st.integers(-1000, 100_000).map(str)


@given(
    provider=st.text(max_size=8) | st.sampled_from(SEEDED_PROVIDERS),
    code=st.none() | st.text() | numbers,
    text=st.none() | words,
    kind=st.none() | st.sampled_from(FailureKind),
    sender=st.booleans(),
)
@example(provider="viber", code="*", text="\x00", kind=None, sender=False)
@example(provider="meta", code="٣", text="*", kind=None, sender=False)
@example(provider="meta", code="0" * 20_000, text="\ud800", kind=None, sender=True)
def test_explain_is_total_and_keeps_what_was_said(
    provider: str, code: str | None, text: str | None, kind: FailureKind | None, sender: bool
) -> None:
    reason = explain(provider=provider, code=code, text=text, kind=kind, sender=sender)

    assert reason.title
    assert reason.text
    assert reason.advice
    assert not (text and text.strip()) or text == reason.text
    assert (reason.code is not None) is bool(code and code.strip())
    assert reason.recognised or (reason.category, reason.retry.class_) == (Category.UNKNOWN, RetryClass.UNKNOWN)
    assert (reason.stage is Stage.PROVIDER) is not sender


def test_reason_encodes_with_the_documented_names() -> None:
    plain = msgspec.to_builtins(from_provider("30500"))

    assert plain["retry"] == {"class": "transient", "after_seconds": 30, "after_seconds_max": 60, "until": None}
    assert {"stage", "category", "code", "title", "text", "advice", "retry", "recognised"} == set(plain)


def test_known_code_is_explained_in_microseconds() -> None:
    """The bound is generous, for slow machines; it catches a catalogue that is read again on every call."""
    from_provider("30003", "handset is off")
    runs = []
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            from_provider("30003", "handset is off")
        runs.append((time.perf_counter() - started) / 1000)

    assert min(runs) < 30e-6


# The document ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", [*Category, *RetryClass, *Stage])
def test_document_names_every_category_class_and_stage(word: str) -> None:
    assert re.search(rf"^\| `{word}` \|", DOC.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", FILES)
def test_document_names_every_file_and_column(name: str) -> None:
    document = DOC.read_text(encoding="utf-8")
    header = CATALOGUE.joinpath(name).read_text(encoding="utf-8").splitlines()[0].split(",")

    assert name in document
    assert ", ".join(header) in document
