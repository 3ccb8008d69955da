"""url_tags against urllib and tldextract row by row, on real, odd and random URLs."""

from __future__ import annotations

import ipaddress
import pickle
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tldextract
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.stages.base import stage_class
from tamis.stages.url_tags import UrlTags, UrlTagsConfig

Tags = tuple[str | None, str | None, str | None, int | None]
NOTHING: Tags = (None, None, None, None)
EXTRACT = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


def tags(urls: Sequence[str | None], **config: bool) -> list[Tags]:
    table = UrlTags(UrlTagsConfig(**config), name="url_tags").measure(pa.table({"url": pa.array(urls, pa.string())}))
    assert table.column_names == [c.name for c in UrlTags(UrlTagsConfig(), name="u").adds]
    return [tuple(row.values()) for row in table.to_pylist()]  # type: ignore[misc]


def oracle(url: str) -> Tags:
    """By urllib and tldextract, plus the three things they let pass: bad characters, empty labels, names too long."""
    url = url.strip("".join(map(chr, range(33))))
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return NOTHING
    if not host:
        return NOTHING
    behind = parts.netloc.rpartition("@")[2].rpartition("]")[2]
    if ":" in behind and behind.partition(":")[2].strip("0123456789"):
        return NOTHING
    depth = len([part for part in parts.path.split("/") if part])
    if "[" in parts.netloc:
        if behind and not behind.startswith(":"):
            return NOTHING
        try:
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            return NOTHING
        return (host, None, None, depth)
    host = host.removesuffix(".")
    bad = any(c in '<>"{}|\\^%`[]' or c.isspace() or ord(c) <= 32 or ord(c) == 127 for c in host)
    dots = host.replace("\u3002", ".").replace("\uff0e", ".").replace("\uff61", ".")
    if bad or "" in dots.split(".") or len(host.encode()) > 253:
        return NOTHING
    found = EXTRACT(host)
    domain = f"{found.domain}.{found.suffix}" if found.domain and found.suffix else None
    return (host, domain, found.suffix or None, depth)


ODD: dict[str, Tags] = {
    "https://User:pw@WWW.Example.CO.UK.:8080/a/b?x#y": ("www.example.co.uk", "example.co.uk", "co.uk", 2),
    "HTTP://EXAMPLE.COM": ("example.com", "example.com", "com", 0),
    "http://1.2.3.4/x": ("1.2.3.4", None, None, 1),
    "http://[2001:DB8::1]:80/a/": ("2001:db8::1", None, None, 1),
    "http://[nonsense]/": NOTHING,
    "http://[::1": NOTHING,
    "http://münchen.de/": ("münchen.de", "münchen.de", "de", 0),
    "http://xn--mnchen-3ya.de/": ("xn--mnchen-3ya.de", "xn--mnchen-3ya.de", "de", 0),
    "http://例え。jp/": ("例え。jp", "例え.jp", "jp", 0),
    "//cdn.example.org/a//b/?q=/c/d": ("cdn.example.org", "example.org", "org", 2),
    "http://foo.github.io/#/a": ("foo.github.io", "github.io", "io", 0),
    "http://localhost:3000/a": ("localhost", None, None, 1),
    "http://com/": ("com", None, "com", 0),
    "http://a@b@example.com/": ("example.com", "example.com", "com", 0),
    "  https://example.com/x \n": ("example.com", "example.com", "com", 1),
    "http://exa\tmple.com/": ("example.com", "example.com", "com", 0),
    "http://example.com?x=/": ("example.com", "example.com", "com", 0),
    "example.com/x": NOTHING,
    "readme.md": NOTHING,
    "data:text/plain,hi": NOTHING,
    "mailto:a@example.com": NOTHING,
    "javascript:void(0)": NOTHING,
    "http://": NOTHING,
    "http:///x": NOTHING,
    "http://./": NOTHING,
    "http://a..com/": NOTHING,
    "http://a b.com/": NOTHING,
    "http://a.com:port/": NOTHING,
    "http://a\u2100b.com/": NOTHING,
    "": NOTHING,
    "x" * 10_000: NOTHING,
    "http://" + "x" * 10_000: NOTHING,
    "http://" + "a." * 200 + "com/": NOTHING,
    "/" * 10_000: NOTHING,
}


def test_odd_urls_never_raise_and_are_null_where_undefined() -> None:
    assert dict(zip(ODD, tags(list(ODD)))) == ODD


@pytest.mark.parametrize("url", [u for u in ODD if not u.isascii() or len(u) < 200])
def test_the_oracle_agrees_on_odd_urls(url: str) -> None:
    assert oracle(url) == ODD[url]


@given(
    st.lists(
        st.builds(
            "".join,
            st.tuples(
                st.sampled_from(["http://", "HTTPS://", "//", "", " ftp://", "data:", "a+b://", "1a://", "http:/"]),
                st.sampled_from(["", "u:p@", "@", "a@b@", "u:[@"]),
                st.one_of(
                    st.sampled_from(
                        ["Example.com", "a.co.uk", "1.2.3.4", "[::1]", "[x]", "ä.de", "a..b", "x.com.", "ab%20.com"]
                    ),
                    st.text(alphabet="aB.-_é。 \\%\t", max_size=12),
                ),
                st.sampled_from(["", ":", ":80", ":x", ":99999", ":8:9"]),
                st.sampled_from(["", "/", "/a/b", "//a", "?q=/x", "#f/g", "/a;b?c", "/\u00e9/ü", "\\a"]),
            ),
        ),
        max_size=8,
    )
)
@settings(max_examples=300, deadline=None)
def test_random_urls_equal_urllib_and_tldextract(urls: list[str]) -> None:
    assert tags(list(urls)) == [oracle(url) for url in urls]


def test_real_urls_equal_urllib_and_tldextract(shared_data: Path) -> None:
    file = sorted((shared_data / "web").glob("*.parquet"))[0]
    urls = pq.read_table(file, columns=["url"])["url"].drop_null().to_pylist()[:3000]
    assert tags(urls) == [oracle(url) for url in urls]


def test_private_suffixes_make_each_site_of_a_host_a_domain() -> None:
    url = ["http://foo.github.io/"]
    assert tags(url) == [("foo.github.io", "github.io", "io", 0)]
    assert tags(url, private_suffixes=True) == [("foo.github.io", "foo.github.io", "github.io", 0)]


def test_path_depth_stays_within_its_type() -> None:
    assert tags(["http://a.com" + "/x" * 40_000])[0][3] == 32767


def test_empty_null_split_and_pickled_give_the_same() -> None:
    stage = pickle.loads(pickle.dumps(UrlTags(UrlTagsConfig(), name="url_tags")))
    assert tags([]) == []
    assert tags([None, None]) == [NOTHING, NOTHING]
    urls = pa.table({"url": pa.array([*ODD, None])})
    parts = [stage.measure(urls.slice(i, 5)) for i in range(0, len(urls), 5)]
    whole = stage.measure(urls)
    assert pa.concat_tables(parts).to_pydict() == whole.to_pydict()
    assert whole.schema == pa.schema([(c.name, c.type) for c in stage.adds])
    assert stage.measure(urls.cast(pa.schema({"url": pa.large_string()}))).equals(whole)


def test_the_fingerprint_names_the_suffix_list_in_use() -> None:
    assert stage_class("url_tags") is UrlTags
    assert tldextract.__version__ in UrlTags(UrlTagsConfig(), name="u").fingerprint()
