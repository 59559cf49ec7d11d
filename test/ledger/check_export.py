"""Checks an export as its README.txt says, with the standard library of Python and nothing of ours.

Ed25519 is not in that library: the signatures of manifest and checkpoint are checked by `openssl` (3 or later) where it is installed, and
said to be unchecked where not.
usage: check_export.py EXPORT.tar.gz [--no-openssl]
"""
import base64, csv, hashlib, io, json, struct, subprocess, sys, tarfile, tempfile

csv.field_size_limit(1 << 30)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def records_of(name, data):
    """(seq, commitment, link_hash, nonce, exact text) of each record"""
    if name.endswith(".csv"):
        for row in csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")):
            yield int(row["seq"]), row["commitment"], row["link_hash"], row["nonce"] or None, row["record"].encode()
        return
    lines = data.split(b"\n")
    if name.endswith(".json"):
        assert lines[0] == b"[" and lines[-2] == b"]"
        lines = [line.rstrip(b",") for line in lines[1:-2]]
    for line in lines:
        if line:
            item = json.loads(line)
            text = line[line.index(b'"record":') + 9 : line.rindex(b',"scrubbed":')]
            yield item["seq"], item["commitment"], item["link_hash"], item["nonce"], text


def root_of(leaf, index, size, path):
    """RFC 9162, section 2.1.3.2"""
    node, last, result = index, size - 1, leaf
    for sibling in path:
        assert last > 0, "path too long"
        if node & 1 or node == last:
            result = sha256(b"\x01", sibling, result)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            result = sha256(b"\x01", result, sibling)
        node >>= 1
        last >>= 1
    assert last == 0, "path too short"
    return result


def ed25519(public_der, message, signature):
    with tempfile.NamedTemporaryFile() as key, tempfile.NamedTemporaryFile() as text, tempfile.NamedTemporaryFile() as sig:
        for file, content in ((key, public_der), (text, message), (sig, signature)):
            file.write(content)
            file.flush()
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", key.name, "-rawin", "-in", text.name, "-sigfile", sig.name]
        return subprocess.run(command, capture_output=True).returncode == 0


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def main(path, use_openssl):
    with tarfile.open(path) as archive:
        files = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    manifest = json.loads(files["manifest.json"])
    for entry in manifest["files"]:
        data = files[entry["name"]]
        assert len(data) == entry["bytes"] and "sha256:" + hashlib.sha256(data).hexdigest() == entry["sha256"], entry["name"]
    assert set(files) == {entry["name"] for entry in manifest["files"]} | {"manifest.json"}

    text, _, signatures = files["checkpoint"].partition(b"\n\n")
    text += b"\n"
    origin, size, root = text.decode().split("\n")[:3]
    size, root = int(size), base64.b64decode(root)

    [name] = [entry["name"] for entry in manifest["files"] if entry["name"].startswith("records.")]
    proofs = [json.loads(line) for line in files["proofs.ndjson"].splitlines()]
    exact = count = 0
    for (seq, commitment, link_hash, nonce, record), proof in zip(records_of(name, files[name]), proofs, strict=True):
        count += 1
        if nonce is not None:
            assert sha256(bytes.fromhex(nonce), record).hex() == commitment, f"record {seq}"
            exact += 1
        assert (proof["seq"], proof["commitment"], proof["link_hash"]) == (seq, commitment, link_hash)
        leaf = sha256(b"\x00", bytes.fromhex(commitment), bytes.fromhex(link_hash))
        path_of = [bytes.fromhex(part) for part in proof["inclusion_path"]]
        assert root_of(leaf, proof["leaf_index"], size, path_of) == root, f"proof of {seq}"
    assert count == manifest["records"]

    signatures_checked = False
    if use_openssl:
        keys = json.loads(files["keys.json"])
        [public] = [key["public_key"] for key in keys["ack_keys"] if key["key_id"] == manifest["key_id"]]
        public = unpadded(public)
        body = files["manifest.json"].replace(b',"signature":"' + manifest["signature"].encode() + b'"', b"")
        parts = [b"SignetV1", b"application/vnd.signet.export-manifest.v1+json", body]
        message = b"".join(struct.pack(">Q", len(part)) + part for part in parts)
        assert ed25519(public, message, unpadded(manifest["signature"])), "manifest signature"
        assert not ed25519(public, message + b" ", unpadded(manifest["signature"]))
        [line] = [line for line in signatures.decode().splitlines() if line.startswith("\u2014 " + origin + " ")]
        assert ed25519(public, text, base64.b64decode(line.split(" ")[2])[4:]), "checkpoint signature"
        signatures_checked = True
    print(json.dumps({"records": count, "exact": exact, "signatures_checked": signatures_checked}))


if __name__ == "__main__":
    main(sys.argv[1], "--no-openssl" not in sys.argv[2:])
