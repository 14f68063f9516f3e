"""How pages are fetched."""

from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from pydantic import Field, field_validator

from smartdevdigest_ops.settings.section import Section

# 0.0.0.0/0 or ::/0 would switch the guard off; fc00::/7 is the widest network that an intranet can need.
_SHORTEST_ALLOWED_PREFIX = 7


class CrawlSettings(Section):
    """Crawling the configured sources: polite to the sites, guarded against what they send."""

    sources_path: str = Field("config/sources.yaml", description="Feeds, sitemaps and URL lists to crawl.")
    max_sitemaps_per_source: int = Field(500, gt=0, description="Most files of one sitemap index that are read.")
    recheck_hours: float = Field(
        0.0,
        ge=0,
        description="A page is left alone for so long after it was looked at, unless its listing has it changed.",
    )
    failure_pause_hours: float = Field(
        20.0,
        gt=0,
        description="Pause before a page that failed is asked for again; doubles with each failure in a row.",
    )
    longest_failure_pause_days: float = Field(
        30.0,
        gt=0,
        description="Longest pause between tries of a page that keeps failing; one that is gone (410) has it at once.",
    )

    user_agent: str = Field(
        "SmartDevDigest/0.1",
        pattern=r"^[A-Za-z_-]+(/[0-9A-Za-z._-]+)?$",
        description="Product name, and version after a slash, sent to sites; the name is what robots.txt rules match.",
    )
    contact: str | None = Field(
        None,
        max_length=200,
        description="Page (https://...) or e-mail address where a site's owner reaches whoever crawls; sent with the "
        "user agent. Without it nothing is fetched.",
    )
    requests_per_second_per_host: float = Field(
        1.0, gt=0, description="Most requests per second to one host; a longer Crawl-delay in robots.txt wins."
    )
    connections_per_host: int = Field(2, gt=0, description="Most connections to one host at a time.")
    max_connections: int = Field(16, gt=0, description="Most connections to all hosts at a time.")
    max_crawl_delay_seconds: float = Field(
        60.0, gt=0, description="Sites whose robots.txt asks for longer pauses are not crawled."
    )

    connect_timeout_seconds: float = Field(
        10.0, gt=0, description="Name resolution and connection; TLS may take as long again."
    )
    total_timeout_seconds: float = Field(
        60.0, gt=0, description="One request from connecting to the last byte of its body, however it drips."
    )
    max_retries: int = Field(3, ge=0, description="Further tries after a lost connection, 408, 429, 500, 502-504.")
    retry_backoff_seconds: float = Field(
        1.0, gt=0, description="Pause before the first retry; doubles with each, times a random 0.5-1.5."
    )
    max_retry_after_seconds: float = Field(
        120.0, ge=0, description="Sites that ask (Retry-After) for a longer pause are left for the next run."
    )
    max_host_failures: int = Field(
        10, gt=0, description="So many pages of a host failing in a row leave its others for the next run."
    )

    max_body_bytes: int = Field(8 * 2**20, gt=0, description="Bytes of a page as sent.")
    max_decompressed_bytes: int = Field(16 * 2**20, gt=0, description="Bytes of a page decompressed.")
    max_listing_bytes: int = Field(
        50 * 2**20, gt=0, description="Bytes of a feed or sitemap, decompressed (the sitemap protocol allows 50 MiB)."
    )
    max_header_bytes: int = Field(64 * 2**10, gt=0, description="Bytes of all header lines of an answer.")
    max_redirects: int = Field(5, ge=0, description="Redirects followed for one page.")
    allowed_private_networks: tuple[IPv4Network | IPv6Network, ...] = Field(
        (),
        description="Networks (10.1.0.0/16) that may be talked to although they are private, loopback or otherwise not "
        "public: an intranet's own.",
    )

    @field_validator("contact")
    @classmethod
    def _contact_can_be_reached(cls, contact: str | None) -> str | None:
        if contact is None or (contact.isascii() and contact.isprintable() and not set(contact) & set(" ()<>\"'")):
            reachable = contact is None or "@" in contact or contact.startswith(("https://", "http://"))
            if reachable:
                return contact
        raise ValueError(
            f"contact={contact!r} is neither an e-mail address nor a URL in plain ASCII without spaces: a site's owner "
            "could not reach you with it. Set it like https://your.site/crawler or crawler@your.site."
        )

    @field_validator("allowed_private_networks", mode="before")
    @classmethod
    def _networks_are_written_as_networks(cls, networks: Any) -> Any:
        for network in networks if isinstance(networks, list | tuple) else ():
            try:
                ip_network(network)
            except ValueError as error:
                raise ValueError(
                    f"allowed_private_networks has {network!r}, which is no network ({error}). Needed is its first "
                    "address and the length of its prefix, such as 10.1.0.0/16."
                ) from None
        return networks

    @field_validator("allowed_private_networks")
    @classmethod
    def _networks_are_not_the_whole_internet(
        cls, networks: tuple[IPv4Network | IPv6Network, ...]
    ) -> tuple[IPv4Network | IPv6Network, ...]:
        for network in networks:
            if network.prefixlen < _SHORTEST_ALLOWED_PREFIX:
                raise ValueError(
                    f"allowed_private_networks has {network}: that lets in nearly every private service at once. "
                    "Name the networks of your intranet alone, such as 10.1.0.0/16."
                )
        return networks
