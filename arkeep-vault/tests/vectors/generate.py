#!/usr/bin/env python3
"""Writes the test vectors beside this file.

A second implementation of FORMAT.md, made from that page alone, with the `cryptography` package
for AES and Argon2id. Run it when a vector is added; it always writes the same bytes.
"""

import pathlib
import struct
import zlib

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

HERE = pathlib.Path(__file__).parent


def block(key, text):
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return encryptor.update(text)


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


def xaes(key, nonce, aad, text):
    doubled = int.from_bytes(block(key, bytes(16))) << 1
    if doubled >> 128:
        doubled ^= (1 << 128) | 0x87
    k1 = doubled.to_bytes(16)
    message_key = b"".join(
        block(key, xor(k1, bytes([0, counter, 0x58, 0]) + nonce[:12])) for counter in (1, 2)
    )
    return AESGCM(message_key).encrypt(nonce[12:], text, aad)


def part(text):
    return struct.pack(">Q", len(text)) + text


KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
KEY_ID = bytes.fromhex("a1a2a3a4a5a6a7a8")
NONCE = bytes(range(0x40, 0x58))
PLACE = {"domain": b"arkeep", "table": b"destinations", "column": b"credentials", "record": b"\x01\x8f"}
SECRET = b"correct horse battery staple"


def aad(place, header):
    return b"".join(part(place[name]) for name in ("domain", "table", "column", "record")) + header


def blob(secret=SECRET, place=PLACE, key=KEY, key_id=KEY_ID, nonce=NONCE, header=None, bound=None):
    header = header or b"\x01\x01" + key_id
    bound = header if bound is None else bound
    return header + nonce + xaes(key, nonce, aad(place, bound), secret)


def write(name, trick, fields):
    lines = [f"# {trick}", ""]
    for field, value in fields:
        lines.append(f"{field}: {value.hex() if isinstance(value, bytes) else value}".rstrip())
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_blob(name, trick, stored, expect, secret=None, place=PLACE, key=KEY, key_id=KEY_ID):
    fields = [("key-id", key_id), ("key", key)]
    fields += [(field, value.decode()) for field, value in place.items() if field != "record"]
    fields += [("record", place["record"]), ("blob", stored), ("expect", expect)]
    if secret is not None:
        fields.append(("secret", secret))
    write(f"blob_{name}", trick, fields)


def flip(stored, offset, bit=0):
    changed = bytearray(stored)
    changed[offset] ^= 1 << bit
    return bytes(changed)


def blobs():
    good = blob()
    other_place = lambda **changes: PLACE | changes

    write_blob("good", "a secret in its place", good, "opens", SECRET)
    write_blob("good_empty", "the empty string is a secret too", blob(b""), "opens", b"")
    write_blob("good_one_byte", "the shortest secret that is not empty", blob(b"\0"), "opens", b"\0")
    long = bytes(i % 251 for i in range(1000))
    write_blob("good_many_blocks", "longer than what is encrypted in one go", blob(long), "opens", long)
    write_blob("good_sixteen_bytes", "exactly one block", blob(bytes(16)), "opens", bytes(16))
    text = "pässwörd ☃".encode()
    write_blob("good_utf8", "a text beyond ASCII", blob(text), "opens", text)
    binary = bytes([0xff, 0xfe, 0, 0x80])
    write_blob("good_not_text", "bytes that are no text", blob(binary), "opens", binary)
    for name, nonce in (("zero", bytes(24)), ("all_ones", b"\xff" * 24)):
        write_blob(f"good_nonce_{name}", "a nonce like any other", blob(nonce=nonce), "opens", SECRET)
    for name, key_id in (("zero", bytes(8)), ("all_ones", b"\xff" * 8)):
        write_blob(f"good_key_id_{name}", "an id like any other", blob(key_id=key_id), "opens", SECRET, key_id=key_id)
    # L of this key starts with a one bit, so doubling it carries; that of KEY does not.
    carrying = next(k for k in (bytes([i] * 32) for i in range(256)) if block(k, bytes(16))[0] & 0x80)
    write_blob("good_subkey_carries", "doubling the CMAC subkey carries", blob(key=carrying), "opens", SECRET, key=carrying)
    for field in ("domain", "table", "column", "record"):
        place = other_place(**{field: b""})
        write_blob(f"good_empty_{field}", f"an empty {field} is a {field}", blob(place=place), "opens", SECRET, place)
    place = other_place(record=bytes(range(256)) * 2)
    write_blob("good_long_record", "a record id of 512 bytes, all values", blob(place=place), "opens", SECRET, place)
    place = other_place(domain="bücher".encode())
    write_blob("good_domain_utf8", "lengths count bytes, not characters", blob(place=place), "opens", SECRET, place)

    for field in ("domain", "table", "column", "record"):
        place = other_place(**{field: PLACE[field] + b"x"})
        write_blob(f"moved_to_another_{field}", f"genuine, sealed for another {field}", blob(place=place), "rejected")
    place = other_place(table=b"destination", column=b"scredentials")
    write_blob("binding_byte_moved_between_parts", "the parts joined are the same, their lengths are not", blob(place=place), "rejected")
    place = other_place(table=PLACE["column"], column=PLACE["table"])
    write_blob("binding_parts_swapped", "table and column change places", blob(place=place), "rejected")
    write_blob("binding_without_header", "the header was not authenticated", blob(bound=b""), "rejected")
    header = b"\x01\x01" + KEY_ID
    joined = b"".join(PLACE[n] for n in ("domain", "table", "column", "record")) + header
    write_blob("binding_without_lengths", "the parts were joined without their lengths", header + NONCE + xaes(KEY, NONCE, joined, SECRET), "rejected")
    little = b"".join(struct.pack("<Q", len(PLACE[n])) + PLACE[n] for n in ("domain", "table", "column", "record")) + header
    write_blob("binding_lengths_little_endian", "the lengths are the wrong way round", header + NONCE + xaes(KEY, NONCE, little, SECRET), "rejected")
    write_blob("binding_none", "nothing was authenticated but the secret", header + NONCE + xaes(KEY, NONCE, b"", SECRET), "rejected")

    write_blob("wrong_key_same_id", "another key under the same id", blob(key=OTHER_KEY), "rejected")
    write_blob("unknown_key_id", "sealed by a key that is not there", blob(key_id=bytes(8)), "rejected")
    write_blob("key_id_replaced", "the id of our key put on a stranger's blob", header + blob(key_id=bytes(8))[10:], "rejected")
    plain = header + NONCE + AESGCM(KEY).encrypt(NONCE[12:], SECRET, aad(PLACE, header))
    write_blob("plain_gcm", "AES-256-GCM with the data key itself", plain, "rejected")
    swapped = header + NONCE + xaes(KEY, NONCE[12:] + NONCE[:12], aad(PLACE, header), SECRET)
    write_blob("nonce_halves_swapped", "the halves of the nonce change places", swapped, "rejected")

    for name, offset in (("key_id_first_byte", 2), ("key_id_last_byte", 9), ("nonce_first_byte", 10), ("nonce_derivation_last_byte", 21), ("nonce_gcm_first_byte", 22), ("nonce_last_byte", 33), ("ciphertext_first_byte", 34), ("ciphertext_last_byte", -17), ("tag_first_byte", -16), ("tag_last_byte", -1)):
        write_blob(f"flipped_{name}", "one bit is not as it was", flip(good, offset), "rejected")
    write_blob("flipped_tag_highest_bit", "one bit is not as it was", flip(good, -1, 7), "rejected")
    write_blob("tag_zero", "a tag of zeros", good[:-16] + bytes(16), "rejected")
    write_blob("tag_of_another_secret", "the tag of another blob", good[:-16] + blob(b"x" * len(SECRET))[-16:], "rejected")
    write_blob("one_byte_longer", "a byte was added at the end", good + b"\0", "rejected")
    write_blob("cut_by_one", "the last byte is missing", good[:-1], "rejected")
    write_blob("cut_to_shortest", "as short as the empty secret", good[:50], "rejected")
    write_blob("two_in_one", "two blobs, one after the other", good + good, "rejected")
    write_blob("tag_in_front", "the tag before the ciphertext", good[:34] + good[-16:] + good[34:-16], "rejected")

    write_blob("empty", "no byte at all", b"", "too short")
    write_blob("only_version", "one byte", good[:1], "too short")
    write_blob("cut_in_key_id", "cut within the key id", good[:9], "too short")
    write_blob("cut_after_header", "a header and nothing else", good[:10], "too short")
    write_blob("cut_in_nonce", "cut within the nonce", good[:33], "too short")
    write_blob("truncated_nonce", "the nonce of plain GCM: twelve bytes", blob(b"")[:10] + NONCE[:12] + bytes(16), "too short")
    write_blob("cut_in_tag_of_empty_secret", "one byte less than the shortest blob", blob(b"")[:-1], "too short")
    write_blob("plaintext", "a password that was never sealed", b"hunter2", "version 104")
    for version in (0, 2, 255):
        stored = blob(header=bytes([version, 1]) + KEY_ID)
        write_blob(f"version_{version}", "genuine in every other way", stored, f"version {version}")
    for algorithm in (0, 2, 127):
        stored = blob(header=bytes([1, algorithm]) + KEY_ID)
        write_blob(f"algorithm_{algorithm}", "genuine in every other way", stored, f"algorithm {algorithm}")
    stored = blob(header=b"\x01\x80" + KEY_ID)
    write_blob("algorithm_of_somebody_else", "an algorithm that this vault does not open", stored, "rejected")


GUARD = bytes(range(64, 96))
OTHER_GUARD = bytes(range(96, 128))
RING_KEY = bytes(range(128, 160))
PASSPHRASE = b"open sesame"
COST = (64, 2, 2)
SALT = bytes(range(0xc0, 0xd0))
PRIMARY, DECRYPT, DISABLED = 1, 2, 3


def key_slot(guard=GUARD, ring_key=RING_KEY, kind=b"key"):
    wrapped = NONCE + xaes(guard, NONCE, b"arkeep-vault 1 ring key, wrapped by a key", ring_key)
    return slot(kind, wrapped)


def passphrase_slot(cost=COST, stored_cost=None, passphrase=PASSPHRASE):
    memory, passes, lanes = cost
    key = Argon2id(salt=SALT, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(passphrase)
    head = struct.pack(">III", *(stored_cost or cost)) + SALT
    domain = b"arkeep-vault 1 ring key, wrapped by a passphrase"
    return slot(b"passphrase", head + NONCE + xaes(key, NONCE, domain + head, RING_KEY))


def slot(kind, wrapped):
    return bytes([len(kind)]) + kind + struct.pack(">H", len(wrapped)) + wrapped


def entry(number, state, key=None, key_id=None):
    times = struct.pack(">qqQ", 1000 + number, 2000 + number, 3000 + number)
    return (key_id or bytes([number] * 8)) + bytes([state]) + times + (key or bytes([0x30 + number] * 32))


KEYS = [entry(1, DISABLED), entry(2, DECRYPT), entry(3, PRIMARY)]


def listing(entries, count=None, revision=7):
    return struct.pack(">QH", revision, len(entries) if count is None else count) + b"".join(entries)


def checked(content):
    return content + struct.pack(">I", zlib.crc32(content))


def ring(slots=None, text=None, ring_key=RING_KEY, version=1, count=None, bound=None, body_length=None, magic=b"ARKVRING"):
    slots = [key_slot()] if slots is None else slots
    head = magic + bytes([version, len(slots) if count is None else count]) + b"".join(slots)
    text = listing(KEYS) if text is None else text
    nonce = bytes(reversed(NONCE))
    body = nonce + xaes(ring_key, nonce, head if bound is None else bound, text)
    length = len(body) if body_length is None else body_length
    return checked(head + struct.pack(">I", length) + body)


def write_ring(name, trick, stored, expect, guard=GUARD, passphrase=None, keys=None):
    guarded = ("passphrase", passphrase.decode()) if passphrase else ("guard", guard)
    fields = [guarded, ("ring", stored), ("expect", expect)]
    if keys:
        fields.append(("keys", keys))
    write(f"ring_{name}", trick, fields)


def rings():
    told = "0101010101010101 disabled 1001 2001 3001, 0202020202020202 decrypt 1002 2002 3002, 0303030303030303 primary 1003 2003 3003"
    good = ring()
    write_ring("good", "one guard, a key in each state", good, "opens", keys=told)
    write_ring("good_two_slots_first", "while it is rekeyed, the old key opens it", ring([key_slot(), key_slot(OTHER_GUARD)]), "opens", keys=told)
    write_ring("good_two_slots_second", "while it is rekeyed, the new key opens it", ring([key_slot(), key_slot(OTHER_GUARD)]), "opens", guard=OTHER_GUARD, keys=told)
    write_ring("good_passphrase", "a passphrase opens it", ring([passphrase_slot()]), "opens", passphrase=PASSPHRASE, keys=told)
    write_ring("good_key_beside_passphrase", "two kinds of guards, the second is ours", ring([passphrase_slot(), key_slot()]), "opens", keys=told)
    write_ring("good_one_key", "the least that a ring can hold", ring(text=listing([entry(3, PRIMARY)])), "opens", keys="0303030303030303 primary 1003 2003 3003")
    write_ring("good_primary_not_last", "the primary key is not the newest", ring(text=listing([entry(3, PRIMARY), entry(2, DECRYPT)])), "opens", keys="0303030303030303 primary 1003 2003 3003, 0202020202020202 decrypt 1002 2002 3002")

    write_ring("wrong_guard", "the key of another ring", good, "wrong key", guard=OTHER_GUARD)
    write_ring("wrong_passphrase", "another passphrase", ring([passphrase_slot()]), "wrong key", passphrase=b"open sesamE")
    write_ring("other_kind_of_guard", "a key is given, and the ring wants a passphrase", ring([passphrase_slot()]), "wrong key")
    write_ring("kind_that_lies", "a slot for a key that calls itself a service", ring([key_slot(kind=b"transit:arkeep")]), "wrong key")
    write_ring("wrapped_key_too_short", "the guard wrapped 31 bytes", ring([key_slot(ring_key=RING_KEY[:31])]), "wrong key")
    write_ring("wrapped_key_too_long", "the guard wrapped 33 bytes", ring([key_slot(ring_key=RING_KEY + b"\0")]), "wrong key")
    write_ring("wrapped_key_cut", "the wrapped key is cut short", ring([slot(b"key", key_slot()[6:-1])]), "wrong key")
    write_ring("wrapped_for_another_purpose", "wrapped with the passphrase's domain by a key", ring([slot(b"key", NONCE + xaes(GUARD, NONCE, b"arkeep-vault 1 ring key, wrapped by a passphrase", RING_KEY))]), "wrong key")
    for name, cost in (("memory", (0xffffffff, 2, 2)), ("passes", (64, 0xffffffff, 2)), ("lanes", (64, 2, 0xffffff)), ("memory_below_lanes", (15, 2, 2)), ("zero", (0, 0, 0))):
        write_ring(f"passphrase_cost_{name}", "a cost that nobody should pay is refused unread", ring([passphrase_slot(stored_cost=cost)]), "wrong key", passphrase=PASSPHRASE)
    write_ring("passphrase_cost_lowered", "the cost that is stored is not the one that was used", ring([passphrase_slot(stored_cost=(32, 2, 2))]), "wrong key", passphrase=PASSPHRASE)

    write_ring("slot_added", "a second slot put in by somebody without the ring key", ring([key_slot(), key_slot(OTHER_GUARD)], bound=b"ARKVRING\x01\x01" + key_slot()), "altered")
    write_ring("slot_removed", "a slot taken out by somebody without the ring key", ring([key_slot()], bound=b"ARKVRING\x01\x02" + key_slot() + key_slot(OTHER_GUARD)), "altered")
    write_ring("body_of_another_ring", "the list is encrypted under another ring key", ring(ring_key=OTHER_KEY), "altered")
    write_ring("body_flipped", "a bit of the list, with a checksum that fits", checked(flip(good[:-4], -40)), "altered")
    write_ring("body_empty", "no list at all", checked(b"ARKVRING\x01\x01" + key_slot() + bytes(4)), "altered")

    write_ring("two_primaries", "two keys that seal", ring(text=listing([entry(1, PRIMARY), entry(2, PRIMARY)])), "primaries 2")
    write_ring("no_primary", "no key that seals", ring(text=listing([entry(1, DECRYPT)])), "primaries 0")
    write_ring("no_keys", "a list without keys", ring(text=listing([])), "primaries 0")
    write_ring("same_id_twice", "one id for two keys", ring(text=listing([entry(1, DECRYPT), entry(2, PRIMARY, key_id=bytes([1] * 8))])), "keys")
    for state in (0, 4, 255):
        write_ring(f"state_{state}", "a state that no key can be in", ring(text=listing([entry(1, state), entry(2, PRIMARY)])), "keys")
    write_ring("count_too_high", "more keys promised than there are", ring(text=listing(KEYS, count=4)), "keys")
    write_ring("count_too_low", "fewer keys promised than there are", ring(text=listing(KEYS, count=2)), "keys")
    write_ring("count_most", "65,535 keys promised", ring(text=listing(KEYS, count=65535)), "keys")
    write_ring("list_one_byte_more", "something is left over", ring(text=listing(KEYS) + b"\0"), "keys")
    write_ring("list_empty", "an empty list, without even a count", ring(text=b""), "keys")
    many = [entry(3, PRIMARY)] + [entry(1, DECRYPT, key_id=struct.pack(">Q", i)) for i in range(256)]
    write_ring("one_key_too_many", "257 keys", ring(text=listing(many)), "keys")

    write_ring("empty", "no byte at all", b"", "not a ring")
    write_ring("other_file", "a file of another kind", b"-----BEGIN PRIVATE KEY-----\n", "not a ring")
    write_ring("magic_altered", "almost a ring", ring(magic=b"ARKVRINg"), "not a ring")
    write_ring("only_magic", "nothing after the first words", good[:8], "cut short")
    write_ring("cut_in_half", "the second half is missing", good[: len(good) // 2], "cut short")
    write_ring("cut_by_one", "the last byte is missing", good[:-1], "cut short")
    write_ring("one_byte_longer", "a byte was added at the end", good + b"\0", "too long")
    write_ring("version_0", "genuine in every other way", ring(version=0), "version 0")
    write_ring("version_2", "genuine in every other way", ring(version=2), "version 2")
    write_ring("checksum_wrong", "a bit of the checksum", flip(good, -1), "checksum")
    write_ring("bit_rot", "a bit of the list, with the old checksum", flip(good, -40), "checksum")
    write_ring("body_length_lies_high", "the body is said to be 4 GiB", ring(body_length=0xffffffff), "cut short")
    write_ring("body_length_lies_low", "the body is said to be shorter", ring(body_length=10), "too long")
    write_ring("slot_length_lies", "the wrapped key is said to be 65,535 bytes", ring([b"\x03key\xff\xff" + bytes(72)]), "cut short")
    write_ring("kind_length_lies", "the kind is said to be 255 bytes and eats the rest", ring([b"\xffkey\x00\x48"]), "cut short")
    write_ring("slot_count_zero", "no guard at all", ring([]), "slots")
    write_ring("slot_count_three", "more guards than there can be", ring([key_slot()] * 3), "slots")
    write_ring("slot_count_lies", "255 slots promised", ring(count=255), "cut short")
    write_ring("kind_empty", "a guard without a kind", ring([slot(b"", bytes(72))]), "slots")
    write_ring("kind_too_long", "a kind of 65 bytes", ring([slot(b"k" * 65, bytes(72))]), "slots")
    write_ring("kind_with_space", "a kind that could be read as two", ring([slot(b"key passphrase", bytes(72))]), "slots")
    write_ring("kind_not_ascii", "a kind that looks like another", ring([slot("kеy".encode(), bytes(72))]), "slots")
    write_ring("kind_with_newline", "a kind that would forge a line of a log", ring([slot(b"key\nok", bytes(72))]), "slots")
    write_ring("wrapped_key_empty", "a guard that wrapped nothing", ring([slot(b"key", b"")]), "slots")
    write_ring("wrapped_key_huge", "a wrapped key of 4097 bytes", ring([slot(b"key", bytes(4097))]), "slots")


if __name__ == "__main__":
    for old in HERE.glob("*.txt"):
        old.unlink()
    blobs()
    rings()
