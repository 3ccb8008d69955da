"""Measure: host, registered domain, public suffix and path depth of `url`.

Invariant: a tag is a function of the URL's text and of the public suffix list inside the installed tldextract; nothing
is fetched and no cache is written. What is no URL with a host gives nulls, never an error.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import unicodedata
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from .base import Column, Stage, StageConfig

# Scheme and user are optional, `//` is not: without it `readme.md` would be a site. The host ends at port, path, query
# or fragment (RFC 3986, 3.2); what it may hold is judged in _tags.
_HOST = r"^(?:[A-Za-z][A-Za-z0-9+.\-]*:)?//(?:[^/?#\[\]]*@)?(?P<host>\[[^\]/?#@]*\]|[^/?#:@\[\]]*)(?::[0-9]*)?(?P<path>(?:/[^?#]*)?)(?:[?#]|$)"
_EDGES = "".join(map(chr, range(33)))  # white space and control characters, which urllib and browsers strip
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f<>\"{}|\\^%`\s]")  # WHATWG's forbidden domain code points
_LONGEST = 253  # octets of a DNS name


class UrlTagsConfig(StageConfig):
    """What `use: url_tags` takes."""

    private_suffixes: bool = Field(
        default=False,
        description="count github.io and the like as suffixes, so that each user's site is a domain of its own",
    )


class UrlTags(Stage):
    """Host, registered domain, public suffix and path depth of the URL."""

    Config = UrlTagsConfig

    @property
    def needs(self) -> tuple[str, ...]:
        return ("url",)

    @property
    def adds(self) -> tuple[Column, ...]:
        return (
            Column("host", pa.string(), "host name of the URL, lower case, as written (Unicode or punycode), no port"),
            Column("domain", pa.string(), "registered domain by the public suffix list; null for IP addresses"),
            Column("suffix", pa.string(), "public suffix, such as com or co.uk; null where the list has none"),
            Column(
                "path_depth", pa.int16(), "non-empty path segments: 0 for https://a.org/, 2 for https://a.org/b/c?d"
            ),
        )

    def fingerprint(self) -> str:
        """The version of tldextract, whose bundled list decides the domains."""
        import tldextract

        return f"tldextract {tldextract.__version__}"

    def measure(self, batch: pa.Table) -> pa.Table:
        urls = pc.utf8_trim(batch["url"].cast(pa.large_string()), characters=_EDGES)
        if pc.any(pc.match_substring_regex(urls, r"[\t\r\n]")).as_py():
            urls = pc.replace_substring_regex(urls, r"[\t\r\n]", "")  # urllib and browsers drop them
        found = pc.extract_regex(urls, _HOST)
        encoded = pc.struct_field(found, "host").combine_chunks().dictionary_encode()
        hosts = encoded.dictionary.to_pylist()
        tags = pa.array([_tags(host, self.config.private_suffixes) for host in hosts], _TAGS)
        chosen = tags.take(encoded.indices)
        host, domain, suffix = (pc.struct_field(chosen, name) for name in ("host", "domain", "suffix"))
        depth = pc.count_substring_regex(pc.struct_field(found, "path").combine_chunks(), "[^/]+")
        depth = pc.if_else(pc.is_valid(host), pc.min_element_wise(depth, 2**15 - 1), None).cast(pa.int16())
        return pa.table({"host": host, "domain": domain, "suffix": suffix, "path_depth": depth})


_TAGS = pa.struct([("host", pa.string()), ("domain", pa.string()), ("suffix", pa.string())])


@functools.lru_cache(maxsize=1 << 16)
def _tags(raw: str, private: bool) -> dict[str, str | None] | None:
    """Host, domain and suffix of one host as it stands in a URL; None if it is none. 10 us, paid once per host."""
    host = raw.lower()
    if host.startswith("["):
        try:
            host = host[1:-1]
            ipaddress.IPv6Address(host.partition("%")[0])
        except ValueError:
            return None
        return {"host": host}
    host = host.removesuffix(".")
    labels = re.split("[.\u3002\uff0e\uff61]", host)  # the dots of IDNA2008
    if not all(labels) or len(host.encode()) > _LONGEST or _FORBIDDEN.search(host):
        return None
    if not host.isascii() and set("/?#@:") & set(unicodedata.normalize("NFKC", host)):
        return None  # a look-alike of a delimiter: urllib refuses it
    found = _extractor(private)(host)
    domain = f"{found.domain}.{found.suffix}" if found.domain and found.suffix else None
    return {"host": host, "domain": domain, "suffix": found.suffix or None}


@functools.lru_cache(maxsize=2)
def _extractor(private: bool) -> Any:
    import tldextract

    return tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None, include_psl_private_domains=private).extract_str
