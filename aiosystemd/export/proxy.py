"""What is the same for every proxy: ciphers, and what is worth compressing."""

from typing import Final

CIPHERS: Final = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)
"""Of TLS 1.2: those with forward secrecy and authenticated encryption (RFC 9325, section 4.2), which are all good: so
the client chooses, who knows what its hardware is fast at. TLS 1.3 has no others."""

TEXT: Final = (
    *("text/plain", "text/css", "text/csv", "text/javascript", "text/markdown", "text/xml"),
    *("application/javascript", "application/json", "application/ld+json", "application/manifest+json"),
    *("application/problem+json", "application/xml", "application/atom+xml", "application/rss+xml"),
    *("application/xhtml+xml", "application/wasm", "application/vnd.api+json", "image/svg+xml"),
)
"""What gets smaller, beside text/html. No text/event-stream: it flows in small parts."""
