"""Content addresses, as Nix 2.8 has given them to items."""

from __future__ import annotations

import pytest

from guix_glue.formats.content_address import is_content_address
from guix_glue.model import StoreItem

SHA512 = (
    "2n0zm9j591idxv29lvrybrcrgncih9hfdrk2sj3i36cby9pkqwhc3j1j4xr7mhjq8x0979n5wxc1nihq84iclh48zwnas"
    "3k882vp2np"
)
A = "12wigjpizrn8axaqxj288q1b751qmwya-a"
SELF = "2bgxxbgwfbw993sfj4hz1c8hvzhmxmsm-selfref"
OTHER = "zf5rz5azgvjb9hkl7wd82hdlsszasfrg-a"
FOUND = (
    (A, "text:sha256:10a83a91g1r50bdw8g4hn47m7j7m6angpabwc80l9c16nx11cw9d"),
    ("4iv2qk4p0fgdjkgh7pi5nz6svn06vkgx-f", f"fixed:sha512:{SHA512}"),
    ("6ln7cybb08i7x2pw35lqpvbj7bkf78km-f", "fixed:r:md5:0y7a1qbv5kxcyhm2p3dmx6nkhk"),
    ("rf1s4gss8k85i0nll5a20jx8in10k156-f", "fixed:r:sha1:kj2lgi6kqfap560mmnz4hw91732dbxgv"),
    (
        "ab3li50xq0nl4q5lxdyinb8w8y13my9s-f",
        "fixed:r:sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h",
    ),
    (
        "hrbblgbxbvz8al5a8l85i8giajyajiwj-f",
        "fixed:sha256:1r3v22qkypccqifzbww5lrn6hf1chi23m6zzkyvb8bvg457nxslq",
    ),
)
REFERRING = (
    (
        "awglb62bhj36xi32rhp3x2429c755gqx-selfref.drv",
        "/nix/store",
        (A,),
        "text:sha256:0dj1wq43bifbn32x4yi08swyfg1j8jzqragk4k70j6r5xgznljs3",
    ),
    (
        SELF,
        "/tmp/store",
        (OTHER, SELF),
        "fixed:r:sha256:0hi8xxwrd4b4q5jhhcjq720gfkrnsvpp0m9rqqps4wxx7n65ibki",
    ),
)


def item(name: str, store: str = "/nix/store", references: tuple[str, ...] = ()) -> StoreItem:
    return StoreItem(f"{store}/{name}", bytes(32), 1, references)


@pytest.mark.parametrize(("name", "address"), FOUND)
def test_the_path_follows(name: str, address: str) -> None:
    assert is_content_address(address, item(name))
    for other in (
        item(name, "/gnu/store"),
        item(f"{name}x"),
        item("0" + name[1:]),
        item(name, references=(OTHER,)),
    ):
        assert not is_content_address(address, other)


@pytest.mark.parametrize(("name", "store", "references", "address"), REFERRING)
def test_references_count(name: str, store: str, references: tuple[str, ...], address: str) -> None:
    assert is_content_address(address, item(name, store, references))
    assert is_content_address(address, item(name, store, references[::-1]))
    assert not is_content_address(address, item(name, store))
    assert not is_content_address(address, item(name, store, (*references, "0" * 32 + "-more")))


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        "text:sha256:0",
        "text:sha1:kj2lgi6kqfap560mmnz4hw91732dbxgv",
        "fixed:r:sha256:" + "0" * 51,
        "fixed:r:sha256:" + "e" * 52,
        "fixed:r:foo:00",
        "fixed:x:sha256:" + "0" * 52,
        f"{FOUND[0][1]}\nSig: x",
        FOUND[0][1].upper(),
    ],
)
def test_what_is_none(address: str) -> None:
    assert not is_content_address(address, item(A))
