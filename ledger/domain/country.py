"""The country of a phone number, from the numbering plan as libphonenumber publishes it.

It is recorded beside the sealed number, in the open: a report by country must outlive the person's data. A carried
number counts where it was issued. Numbers are not validated: senders make typing errors, and those are numbers of the
country that was meant.
"""

from functools import lru_cache
from typing import Final

from phonenumbers import COUNTRY_CODE_TO_REGION_CODE, PhoneNumber, region_code_for_number

_NOWHERE: Final = "001"  # satellite, freephone and other services of no country
_NORTH_AMERICA: Final = "1"
#: Digits that decide among territories which share a calling code.
_TELLING: Final = 7
_AREA: Final = 3


def country_of(recipient: str | None) -> str | None:
    """Return the ISO 3166 code of a `+digits` number's country; None for anything else."""
    if recipient is None or recipient[:1] != "+" or not recipient[1:].isdecimal() or not recipient.isascii():
        return None
    digits = recipient[1:]
    if digits[0] == _NORTH_AMERICA:
        return _shared(_NORTH_AMERICA, f"{digits[1 : 1 + _AREA]}2345678"[:10])
    code, regions = _calling_code(digits[:3])
    if not regions or regions[0] == _NOWHERE:
        return None
    if len(regions) == 1:
        return regions[0]
    return _shared(code, digits[len(code) : _TELLING] + "0" * max(0, len(digits) - _TELLING))


@lru_cache(1024)
def _calling_code(start: str) -> tuple[str, tuple[str, ...]]:
    for length in (1, 2, 3):
        if regions := COUNTRY_CODE_TO_REGION_CODE.get(int(start[:length])):
            return start[:length], regions
    return "", ()


@lru_cache(8192)
def _shared(code: str, national: str) -> str:
    """Return the territory of a number; the one the calling code is known for where the number fits none."""
    main: str = COUNTRY_CODE_TO_REGION_CODE[int(code)][0]
    number = PhoneNumber(country_code=int(code), national_number=int(national or 0))
    return region_code_for_number(number) or main
