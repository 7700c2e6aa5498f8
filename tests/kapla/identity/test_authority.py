from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from kapla.identity.authority import AUTHORITY, authority_certificate, certificate_pem
from kapla.identity.pair import KeyPair


def test_the_published_ca_is_the_same_everywhere() -> None:
    # Others trust these bytes: with another CA they could not meet.
    assert hashlib.sha256(authority_certificate()).hexdigest() == (
        "ac9a65b9a5dce1a415b3db8e919821a432057514ba481b86345965320dcab7eb"
    )


def test_the_certificate_of_a_pair_is_always_the_same() -> None:
    pair, other = KeyPair.generate(), KeyPair.generate()
    assert certificate_pem(pair) == certificate_pem(pair) != certificate_pem(other)


def test_certificates_do_not_expire() -> None:
    ca = x509.load_der_x509_certificate(authority_certificate())
    leaf = x509.load_pem_x509_certificate(certificate_pem(KeyPair.generate()))
    for certificate in (ca, leaf):
        shown = subprocess.run(
            ["openssl", "x509", "-noout", "-dates"],
            input=certificate.public_bytes(Encoding.PEM),
            capture_output=True,
            check=True,
            timeout=30,
        ).stdout.decode()
        assert "notBefore=Jan  1 00:00:00 1970 GMT" in shown
        assert "notAfter=Dec 31 23:59:59 9999 GMT" in shown


def test_a_certificate_names_its_key_and_cannot_issue_others() -> None:
    authority = x509.load_der_x509_certificate(authority_certificate())
    for pair in [KeyPair.generate() for _ in range(20)]:
        certificate = x509.load_pem_x509_certificate(certificate_pem(pair))
        certificate.verify_directly_issued_by(authority)
        assert certificate.subject.rfc4514_string() == f"CN={pair.public}"
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert 0 < certificate.serial_number < 2**159


def test_everybody_can_know_the_key_of_the_ca() -> None:
    # By what is written in docs/wire.md, and nothing else.
    seed = hashlib.sha256(b"Kapla: this key is known to everybody and proves nothing").digest()
    assert AUTHORITY.private.private_bytes_raw() == seed


def test_others_find_the_ca_in_the_document_of_the_wire() -> None:
    pem = x509.load_der_x509_certificate(authority_certificate()).public_bytes(Encoding.PEM)
    document = Path(__file__).parents[3] / "docs" / "wire.md"
    assert pem.decode() in document.read_text()
