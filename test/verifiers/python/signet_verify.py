#!/usr/bin/env python3
"""Verifies a Signet stamp. Written from docs/reference/stamp.md alone; Python 3.9 or later, standard library only.

    signet_verify.py --keyring FILE [--sidecar STAMP] [--stamp-header VALUE]
                     [--target T] [--method M] [--status N] [--tenant T] [--channel C] FILE

Exit codes: 0 valid and subject checked, 1 invalid, 2 usage or unreadable, 3 intact but subject not fully checked.
"""

import argparse
import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import sys
import urllib.parse
from decimal import Decimal

MAX_DEPTH = 64
MAX_STAMP_BYTES = 1024 * 1024
SUBJECT = ("tenant", "method", "target_digest", "status", "channel")


class Invalid(Exception):
    """A check failed. `code` is the error's name in stamp.md."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class Unreadable(Exception):
    """A file or the keyring cannot be used."""


class NotStrict(Exception):
    """Bytes that are not strict JSON, or a value without canonical form."""


# ---- Strict JSON and its canonical form --------------------------------------------------------------------------------


class Number:
    """A number as written."""

    def __init__(self, token):
        self.token = token


STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]|"', re.DOTALL)


def unique_members(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise NotStrict("a name is there twice")
    return members


def refuse_constant(name):
    raise NotStrict(f"{name} is no JSON")


def parse_strict(data):
    """The value of strict JSON; numbers as `Number`."""
    if data.startswith(b"\xef\xbb\xbf"):
        raise NotStrict("a byte order mark")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NotStrict("no UTF-8") from error
    depth = 0
    for token in STRUCTURE.finditer(data):
        if token.group() in (b"{", b"["):
            depth += 1
            if depth > MAX_DEPTH:
                raise NotStrict("nested too deep")
        elif token.group() in (b"}", b"]"):
            depth -= 1
    try:
        return json.loads(
            text,
            object_pairs_hook=unique_members,
            parse_int=Number,
            parse_float=Number,
            parse_constant=refuse_constant,
        )
    except ValueError as error:
        raise NotStrict("the grammar is broken") from error


def print_number(value):
    """ECMAScript's Number::toString, radix 10."""
    if value == 0:
        return "0"
    # repr() gives the shortest digits that read back as the same double, as ECMAScript wants them.
    _, digit_tuple, exponent = Decimal(repr(abs(value))).as_tuple()
    digits = "".join(map(str, digit_tuple)).lstrip("0")
    exponent += len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    count, point = len(digits), len(digits) + exponent
    if count <= point <= 21:
        text = digits + "0" * (point - count)
    elif 0 < point <= 21:
        text = digits[:point] + "." + digits[point:]
    elif -6 < point <= 0:
        text = "0." + "0" * -point + digits
    else:
        mantissa = digits if count == 1 else digits[0] + "." + digits[1:]
        text = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return "-" + text if value < 0 else text


def write_number(number, exact):
    value = float(number.token)
    if value in (float("inf"), float("-inf")):
        raise NotStrict("a number too large")
    printed = print_number(value)
    if exact and not same_decimal(number.token, value, printed):
        raise NotStrict("a number that does not round-trip")
    return printed


def same_decimal(token, value, printed):
    if value == 0:
        # Decimal has limits to its exponents; zero is zero whatever its exponent.
        return not re.search("[1-9]", re.split("[eE]", token)[0])
    return Decimal(token) == Decimal(printed)


ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def write_string(text):
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise NotStrict("a lone surrogate") from error
    return '"' + re.sub(r'["\\\x00-\x1f]', lambda c: ESCAPES.get(c.group(), f"\\u{ord(c.group()):04x}"), text) + '"'


def canonical_text(value, exact):
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, Number):
        return write_number(value, exact)
    if isinstance(value, str):
        return write_string(value)
    if isinstance(value, list):
        return "[" + ",".join(canonical_text(item, exact) for item in value) + "]"
    names = sorted(value, key=lambda name: name.encode("utf-16-be", "surrogatepass"))
    return "{" + ",".join(write_string(name) + ":" + canonical_text(value[name], exact) for name in names) + "}"


def canonical(value, exact=False):
    """RFC 8785 bytes. `exact`: each number must round-trip."""
    return canonical_text(value, exact).encode("utf-8")


# ---- Where the stamp is ------------------------------------------------------------------------------------------------

SPACE = b" \t\n\r"
STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SCALAR = re.compile(rb"[a-z0-9+\-.E]+")
CLOSES = {b"{": b"}", b"[": b"]"}
MEMBER = b'"_compliance":'


def skip_space(data, at):
    while at < len(data) and data[at] in SPACE:
        at += 1
    return at


def skip_string(data, at):
    found = STRING.match(data, at)
    if not found:
        raise Invalid("JSON_INVALID", f"a string is wanted at byte {at}")
    return found.end()


def skip_value(data, at):
    first = data[at : at + 1]
    if first == b'"':
        return skip_string(data, at)
    if first in CLOSES:
        return skip_container(data, at)
    found = SCALAR.match(data, at)
    if not found:
        raise Invalid("JSON_INVALID", f"a value is wanted at byte {at}")
    return found.end()


def skip_container(data, at):
    open_brackets = []
    for token in STRUCTURE.finditer(data, at):
        text = token.group()
        if text in CLOSES:
            open_brackets.append(CLOSES[text])
            if len(open_brackets) + 1 > MAX_DEPTH:
                raise Invalid("JSON_INVALID", f"nested deeper than {MAX_DEPTH} at byte {token.start()}")
        elif text in (b"}", b"]"):
            if open_brackets.pop() != text:
                raise Invalid("JSON_INVALID", f"a bracket does not match at byte {token.start()}")
            if not open_brackets:
                return token.end()
        elif text == b'"':
            break
    raise Invalid("JSON_INVALID", "the content ends too early")


def is_compliance(raw):
    if not 11 <= len(raw) <= 66:
        return False
    if len(raw) == 11 or b"\\" not in raw:
        return raw == b"_compliance"
    try:
        return json.loads(b'"' + raw + b'"') == "_compliance"
    except ValueError as error:
        raise Invalid("JSON_INVALID", "a name has an escape that JSON does not have") from error


def scan_object(data, at):
    """Index of the final brace, and of each top-level `_compliance`: (place among the members, name start, value start, value end)."""
    found = []
    members = 0
    at = skip_space(data, at + 1)
    if data[at : at + 1] != b"}":
        while True:
            name_start = at
            name_end = skip_string(data, at)
            at = skip_space(data, name_end)
            if data[at : at + 1] != b":":
                raise Invalid("JSON_INVALID", f"a colon is wanted at byte {at}")
            value_start = skip_space(data, at + 1)
            value_end = skip_value(data, value_start)
            if is_compliance(data[name_start + 1 : name_end - 1]):
                found.append((members, name_start, value_start, value_end))
            members += 1
            at = skip_space(data, value_end)
            if data[at : at + 1] == b"}":
                break
            if data[at : at + 1] != b",":
                raise Invalid("JSON_INVALID", f"a comma or the end is wanted at byte {at}")
            at = skip_space(data, at + 1)
    if skip_space(data, at + 1) < len(data):
        raise Invalid("JSON_INVALID", f"something follows the object at byte {at + 1}")
    return at, found


def split_embedded(content):
    """(payload, stamp) of content with an embedded stamp, else (content, None)."""
    start = skip_space(content, 0)
    if content[start : start + 1] != b"{":
        return content, None
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Invalid("JSON_INVALID", "the content is not UTF-8") from error
    close, found = scan_object(content, start)
    if not found:
        return content, None
    if len(found) > 1:
        raise Invalid("STAMP_INVALID", "_compliance is there more than once")
    place, name_start, value_start, value_end = found[0]
    cut = name_start if place == 0 else name_start - 1
    if (
        content[name_start:value_start] != MEMBER
        or value_end != close
        or (place > 0 and content[cut : cut + 1] != b",")
        or content[value_start : value_start + 1] != b"{"
    ):
        raise Invalid("STAMP_INVALID", "_compliance is not in the form in which a stamp is embedded")
    stamp = content[value_start:value_end]
    read_canonical(stamp)
    return content[:cut] + content[value_end:], stamp


HEADER_HASH = re.compile(r"sha256:[0-9a-f]{64}")
PARAMETER = re.compile(
    r'; *([a-z*][a-z0-9_.*-]*)(?:=("(?:[ !#-\[\]-~]|\\["\\])*"|[A-Za-z*][!#$%&\'*+.^_`|~0-9A-Za-z:/-]*|-?[0-9]{1,15}(?:\.[0-9]{1,3})?|\?[01]))?'
)


def parse_header(value):
    """(hash, stamp or None)."""
    text = value.strip(" ")
    found = HEADER_HASH.match(text)
    if not found:
        raise Invalid("STAMP_INVALID", "the header does not begin with a hash")
    stamp = None
    at = found.end()
    while at < len(text):
        parameter = PARAMETER.match(text, at)
        if not parameter:
            raise Invalid("STAMP_INVALID", "the header has something behind the hash that is no parameter")
        at = parameter.end()
        if parameter.group(1) == "stamp":
            quoted = parameter.group(2) or ""
            if stamp is not None or not quoted.startswith('"'):
                raise Invalid("STAMP_INVALID", "the header's stamp is there twice, or no string")
            try:
                stamp = from_base64url(quoted[1:-1])
            except ValueError as error:
                raise Invalid("STAMP_INVALID", "the header's stamp is no base64url") from error
    if stamp is not None and digest_text(stamp) != found.group():
        raise Invalid("STAMP_INVALID", "the header's stamp has another hash")
    return found.group(), stamp


def from_base64url(text):
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if not text or base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError("no base64url")
    return data


def digest_text(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def find_stamps(content, sidecar, header):
    """(payload, stamps): each must verify."""
    problem = None
    try:
        payload, embedded = split_embedded(content)
    except Invalid as error:
        if error.code != "JSON_INVALID":
            raise
        payload, embedded, problem = content, None, error
    stamps = [] if embedded is None else [embedded]
    if sidecar is not None:
        stamps.append(sidecar)
    if header is not None:
        stated, stamp = parse_header(header)
        if stamp is not None:
            stamps.append(stamp)
        elif embedded is None:
            raise Invalid("STAMP_MISSING", "the header is a hash alone, and the content carries no stamp")
        elif digest_text(embedded) != stated:
            raise Invalid("STAMP_INVALID", "the header has another hash than the embedded stamp")
    if not stamps:
        raise problem or Invalid("STAMP_MISSING", "there is no stamp")
    return payload, stamps


# ---- The form of stamp and keyring -------------------------------------------------------------------------------------


def string(pattern=None, least=0, most=None):
    def check(value):
        return (
            isinstance(value, str)
            and len(value) >= least
            and (most is None or len(value) <= most)
            and (pattern is None or re.fullmatch(pattern, value) is not None)
        )

    return check


def one_of(*allowed):
    return lambda value: isinstance(value, str) and value in allowed


def array(item, least=0, most=None, unique=False):
    def check(value):
        return (
            isinstance(value, list)
            and least <= len(value) <= most
            and all(item(each) for each in value)
            and not (unique and len(set(value)) != len(value))
        )

    return check


def integer(least, most):
    def check(value):
        return isinstance(value, Number) and re.fullmatch("-?[0-9]+", value.token) is not None and least <= int(value.token) <= most

    return check


def members(required, optional=None, closed=False):
    def check(value):
        if not isinstance(value, dict) or not all(name in value for name in required):
            return False
        checks = {**required, **(optional or {})}
        if closed and not all(name in checks for name in value):
            return False
        return all(check(value[name]) for name, check in checks.items() if name in value)

    return check


def is_time(value):
    found = isinstance(value, str) and re.fullmatch(
        "([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\\.[0-9]{3}Z", value
    )
    if not found:
        return False
    try:
        datetime.datetime(*map(int, found.groups()))
        return True
    except ValueError:
        return False


def is_secret(value):
    try:
        return isinstance(value, str) and len(from_base64url(value)) >= 32
    except ValueError:
        return False


NAME = string(least=1, most=512)
DIGEST = string("sha256:[0-9a-f]{64}")
HEX64 = string("[0-9a-f]{64}")

IS_STAMP = members(
    {
        "stamp_version": one_of("v1"),
        "timestamp_utc": is_time,
        "data_classification": one_of("public", "internal", "confidential", "restricted"),
        "regulatory_compliance": array(string("[A-Z0-9][A-Z0-9_.-]{0,63}"), least=1, most=64, unique=True),
        "approval_status": one_of("draft", "pending-approval", "approved", "rejected"),
        "data_lineage": members(
            {
                "producer_id": NAME,
                "source_assets": array(string(least=1, most=2048), most=256),
                "transformations": array(string(least=1, most=512), most=256),
                "request_id": NAME,
                "trace_id": string("(?!0{32})[0-9a-f]{32}"),
            },
            {"model_version": NAME, "input_hash": DIGEST},
        ),
        "subject": members(
            {
                "tenant": NAME,
                "method": string("[A-Z][A-Z0-9!#$%&'*+.^_`|~-]{0,31}"),
                "target_digest": DIGEST,
                "status": integer(200, 599),
                "media_type": string(most=255),
                "channel": one_of("external", "internal"),
            }
        ),
        "policy": members({"bundle_revision": NAME, "decision_id": NAME}),
        "integrity": members(
            {
                "alg": one_of("HMAC-SHA256"),
                "key_id": NAME,
                "canonicalization": one_of("bytes", "jcs"),
                "payload_digest": DIGEST,
                "payload_length": integer(0, 2**53 - 1),
                "mac": HEX64,
            }
        ),
    }
)

VALIDITY = {"key_id": NAME, "not_before": is_time, "not_after": is_time}
REVOKED = {"revoked_at": is_time}
BASE64URL = string("[A-Za-z0-9_-]+")
IS_KEY = {
    "stamp": members(
        {**VALIDITY, "use": one_of("stamp"), "alg": one_of("HMAC-SHA256"), "secret": is_secret, "producer_id": NAME, "tenant": NAME},
        REVOKED,
        closed=True,
    ),
    "chain": members({**VALIDITY, "use": one_of("chain"), "alg": one_of("HMAC-SHA256"), "secret": is_secret}, REVOKED, closed=True),
    "ack": members(
        {**VALIDITY, "use": one_of("ack"), "alg": one_of("Ed25519"), "public_key": BASE64URL},
        {**REVOKED, "private_key": BASE64URL},
        closed=True,
    ),
    "stamp-root": members({**VALIDITY, "use": one_of("stamp-root"), "alg": one_of("HKDF-SHA256"), "secret": is_secret}, REVOKED, closed=True),
    "workload-ca": members(
        {**VALIDITY, "use": one_of("workload-ca"), "alg": one_of("ECDSA-P256"), "certificate": BASE64URL},
        {**REVOKED, "private_key": BASE64URL},
        closed=True,
    ),
}


class Keys:
    """The stamp keys of a keyring, and those that are derived from its roots."""

    def __init__(self, keys):
        self.stamp = {key["key_id"]: key for key in keys if key["use"] == "stamp"}
        self.roots = {key["key_id"]: key for key in keys if key["use"] == "stamp-root"}

    def get(self, key_id):
        return self.stamp.get(key_id) or self.derived(key_id)

    def derived(self, key_id):
        parts = key_id.split(".")
        if len(key_id) > 512 or len(parts) != 5 or parts[0] != "d1":
            return None
        root_id, day, tenant, producer_id = (decode_part(part) for part in parts[1:])
        root = self.roots.get(root_id)
        if not (root and day and tenant and producer_id and re.fullmatch("[0-9]{8}", day) and "0002" <= day[:4] <= "9998"):
            return None
        try:
            start = datetime.datetime(int(day[:4]), int(day[4:6]), int(day[6:]))
            early = start - datetime.timedelta(minutes=10)
            end = start + datetime.timedelta(days=2)
        except (ValueError, OverflowError):
            return None
        info = pae(b"SignetV1", b"application/vnd.signet.stamp-key.v1", tenant.encode(), producer_id.encode(), key_id.encode())
        # HKDF (RFC 5869) without salt; one block is all that is needed.
        extracted = hmac.new(b"\0" * 32, from_base64url(root["secret"]), hashlib.sha256).digest()
        secret = hmac.new(extracted, info + b"\1", hashlib.sha256).digest()
        key = {
            "tenant": tenant,
            "producer_id": producer_id,
            "secret": base64.urlsafe_b64encode(secret).rstrip(b"=").decode(),
            "not_before": max(time_text(early), root["not_before"]),
            "not_after": min(time_text(end), root["not_after"]),
        }
        return {**key, **({"revoked_at": root["revoked_at"]} if "revoked_at" in root else {})}


def time_text(moment):
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000Z").zfill(24)


def decode_part(part):
    if not re.fullmatch("(?:[A-Za-z0-9_-]|%[0-9A-F]{2})+", part):
        return None
    try:
        text = urllib.parse.unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return None
    return text if urllib.parse.quote(text, safe="-_").replace(".", "%2E").replace("~", "%7E") == part else None


def read_keyring(data):
    """The stamp keys by id."""
    try:
        ring = parse_strict(data)
    except NotStrict as error:
        raise Unreadable(f"the keyring is not strict JSON: {error}") from error
    if not isinstance(ring, dict) or set(ring) != {"version", "keys"} or not integer(1, 1)(ring["version"]):
        raise Unreadable("the keyring must be an object with version 1 and keys")
    keys = ring["keys"]
    if not isinstance(keys, list) or len(keys) > 10_000:
        raise Unreadable("the keys must be an array of 10,000 at most")
    seen = set()
    for index, key in enumerate(keys):
        use = key.get("use") if isinstance(key, dict) else None
        if not isinstance(use, str) or use not in IS_KEY or not IS_KEY[use](key):
            raise Unreadable(f"key {index} of the keyring does not have the form of one")
        if key["key_id"] in seen:
            raise Unreadable(f"key {index} of the keyring has a key_id that was there before")
        if key["not_before"] >= key["not_after"]:
            raise Unreadable(f"key {index} of the keyring ends before it begins")
        seen.add(key["key_id"])
    return Keys(keys)


# ---- Verification ------------------------------------------------------------------------------------------------------


def read_canonical(data):
    try:
        value = parse_strict(data)
        form = canonical(value)
    except NotStrict as error:
        raise Invalid("STAMP_INVALID", f"the stamp is not strict JSON: {error}") from error
    if form != data:
        raise Invalid("STAMP_INVALID", "the stamp is not in canonical form")
    return value


def pae(*parts):
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


def check_mac(stamp, key):
    integrity = {name: value for name, value in stamp["integrity"].items() if name != "mac"}
    framed = pae(
        b"SignetV1",
        b"application/vnd.signet.stamp.v1+json",
        bytes.fromhex(integrity["payload_digest"][len("sha256:") :]),
        canonical({**stamp, "integrity": integrity}),
    )
    mac = hmac.new(from_base64url(key["secret"]), framed, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(mac, stamp["integrity"]["mac"]):
        raise Invalid("STAMP_MAC_MISMATCH", "the stamp was changed, or not made with this key")


def check_key(stamp, key):
    if key["producer_id"] != stamp["data_lineage"]["producer_id"] or key["tenant"] != stamp["subject"]["tenant"]:
        raise Invalid("STAMP_KEY_INVALID", "the key signs for another producer or tenant")
    time = stamp["timestamp_utc"]
    if not key["not_before"] <= time < key["not_after"] or time >= key.get("revoked_at", "~"):
        raise Invalid("STAMP_KEY_INVALID", f"the key was not valid at {time}")


def check_payload(stamp, payload):
    integrity = stamp["integrity"]
    if integrity["canonicalization"] == "jcs":
        try:
            payload = canonical(parse_strict(payload), exact=True)
        except NotStrict as error:
            raise Invalid("STAMP_PAYLOAD_MISMATCH", f"the payload has no canonical form: {error}") from error
    if len(payload) != int(integrity["payload_length"].token) or digest_text(payload) != integrity["payload_digest"]:
        raise Invalid("STAMP_PAYLOAD_MISMATCH", f"the payload has {len(payload)} bytes and digest {digest_text(payload)}")


def check_subject(stamp, expected):
    for name, wanted in expected.items():
        found = stamp["subject"][name]
        if isinstance(found, Number):
            found = int(found.token)
        if found != wanted:
            raise Invalid("STAMP_SUBJECT_MISMATCH", f"{name} is {found!r}, expected {wanted!r}")


def verify(data, payload, keys, expected):
    """Verifies one stamp and gives its hash."""
    if len(data) > MAX_STAMP_BYTES:
        raise Invalid("STAMP_INVALID", "the stamp is too large")
    stamp = read_canonical(data)
    if not IS_STAMP(stamp):
        raise Invalid("STAMP_INVALID", "the stamp does not have the members of version 1")
    key = keys.get(stamp["integrity"]["key_id"])
    if key is None:
        raise Invalid("STAMP_KEY_UNKNOWN", f"the keyring has no stamp key {stamp['integrity']['key_id']!r}")
    check_mac(stamp, key)
    check_key(stamp, key)
    check_payload(stamp, payload)
    check_subject(stamp, expected)
    return digest_text(data)


def read_file(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description="Verifies a Signet stamp against the content that it came with.", allow_abbrev=False)
    parser.add_argument("--keyring", required=True)
    parser.add_argument("--sidecar")
    parser.add_argument("--stamp-header")
    parser.add_argument("--target")
    parser.add_argument("--method")
    parser.add_argument("--status", type=int)
    parser.add_argument("--tenant")
    parser.add_argument("--channel", choices=("external", "internal"))
    parser.add_argument("file")
    return parser.parse_args(arguments)


def main(arguments):
    flags = parse_arguments(arguments)
    stated = {name: getattr(flags, name) for name in ("tenant", "method", "status", "channel")}
    # The bytes of the command line, whatever they are.
    stated["target_digest"] = None if flags.target is None else digest_text(os.fsencode(flags.target))
    expected = {name: value for name, value in stated.items() if value is not None}
    try:
        keys = read_keyring(read_file(flags.keyring))
        content = read_file(flags.file)
        sidecar = None if flags.sidecar is None else read_file(flags.sidecar)
        try:
            payload, stamps = find_stamps(content, sidecar, flags.stamp_header)
        except Invalid as error:
            beside = flags.file + ".stamp.json"
            if sidecar is not None or flags.stamp_header is not None or error.code == "STAMP_INVALID" or not os.path.exists(beside):
                raise
            payload, stamps = find_stamps(content, read_file(beside), None)
        hashes = [verify(stamp, payload, keys, expected) for stamp in stamps]
    except Invalid as error:
        print(f"{error.code}: {error}")
        return 1
    except Unreadable as error:
        print(f"signet_verify: {error}", file=sys.stderr)
        return 2
    unchecked = [name for name in SUBJECT if name not in expected]
    print(f"{hashes[0]} {'verified' if not unchecked else 'intact, not checked: ' + ', '.join(unchecked)}")
    return 3 if unchecked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
