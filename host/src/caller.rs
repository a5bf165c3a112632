//! What the host works out about a caller: its address, whether it comes from an
//! origin of ours, and what its forwarding headers are worth. Plugins get these
//! facts with the request and cannot be talked out of them. Nothing is stored here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};
use http::uri::Authority;
use ipnet::IpNet;

use crate::config::Config;

/// Where a request says it comes from; see `wit/types.wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Neither `Origin` nor `Sec-Fetch-Site`: not a browser.
    Absent,
    /// The request's own host, or a configured origin.
    Trusted,
    /// Anything else.
    Foreign,
}

/// The facts about one caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Text of the client's address; an IPv6 address is its /64 prefix.
    pub address: String,
    /// The verdict on where the request comes from.
    pub origin: Origin,
    /// The request came through a trusted proxy.
    pub proxied: bool,
}

/// Knows which peers and origins are trusted.
#[derive(Debug)]
pub struct Judge {
    proxies: Vec<IpNet>,
    origins: BTreeSet<String>,
}

impl Judge {
    /// One for the process.
    pub fn new(config: &Config) -> Judge {
        let origins = config.allowed_origins.iter();
        Judge {
            proxies: config.trusted_proxies.clone(),
            origins: origins.filter_map(|origin| normal_origin(origin)).collect(),
        }
    }

    /// Works out the facts. `peer` is the other end of the connection, `authority`
    /// the one of the request target (HTTP/2 has no `Host`).
    pub fn judge(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        authority: Option<&Authority>,
    ) -> Caller {
        let peer = peer.to_canonical();
        let proxied = self.proxies.iter().any(|network| network.contains(&peer));
        let client = if proxied {
            forwarded_for(headers).unwrap_or(peer)
        } else {
            peer
        };
        Caller {
            address: bucket(client),
            origin: self.origin(headers, authority, proxied),
            proxied,
        }
    }

    /// `Origin` is scheme, host and port (RFC 6454 section 7); `Sec-Fetch-Site` is the
    /// browser's own word on it (W3C Fetch Metadata). Both must agree.
    fn origin(&self, headers: &HeaderMap, authority: Option<&Authority>, proxied: bool) -> Origin {
        let sites = headers.get_all("sec-fetch-site");
        let foreign = |site: &HeaderValue| {
            let bad: [&[u8]; 2] = [b"cross-site", b"same-site"];
            bad.iter()
                .any(|word| site.as_bytes().eq_ignore_ascii_case(word))
        };
        if sites.iter().any(foreign) {
            return Origin::Foreign;
        }
        let mut given = headers.get_all(ORIGIN).iter();
        let Some(origin) = given.next() else {
            return if sites.iter().next().is_some() {
                Origin::Trusted
            } else {
                Origin::Absent
            };
        };
        let origin = origin.to_str().ok().and_then(normal_origin);
        let (Some(origin), None) = (origin, given.next()) else {
            return Origin::Foreign;
        };
        let own = own_origin(headers, authority, proxied);
        if own.as_deref() == Some(&origin) || self.origins.contains(&origin) {
            Origin::Trusted
        } else {
            Origin::Foreign
        }
    }
}

/// The origin under which the client reached this request. The forwarding headers
/// count only if a trusted proxy set them; the listeners themselves speak plain HTTP.
fn own_origin(headers: &HeaderMap, authority: Option<&Authority>, proxied: bool) -> Option<String> {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(last)
    };
    let forwarded = |name: &str| if proxied { text(name) } else { None };
    let host = forwarded("x-forwarded-host")
        .or_else(|| authority.map(Authority::as_str))
        .or_else(|| text(HOST.as_str()))?;
    let scheme = forwarded("x-forwarded-proto").unwrap_or("http");
    normal_origin(&format!("{scheme}://{host}"))
}

/// Lower case, and without the scheme's default port; `None` if it is no origin
/// (`null` is none).
fn normal_origin(text: &str) -> Option<String> {
    let (scheme, rest) = text.trim().split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority: Authority = rest.trim_end_matches('/').parse().ok()?;
    // RFC 3986 (section 3.2.2) allows commas in a host. No name in DNS has one, and to those
    // who read `X-Forwarded-Host` it ends an entry.
    if authority.as_str().contains(['@', ',']) || authority.host().is_empty() {
        return None;
    }
    let host = authority.host().to_ascii_lowercase();
    let default = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    // `Authority` takes a port that is no number for none at all.
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => default,
        text => {
            let digits = text.strip_prefix(':')?;
            if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            digits.parse::<u16>().ok()?
        }
    };
    if port == default {
        Some(format!("{scheme}://{host}"))
    } else {
        Some(format!("{scheme}://{host}:{port}"))
    }
}

/// The last entry of a comma-separated list: the one that the nearest proxy wrote.
fn last(list: &str) -> &str {
    list.rsplit(',').next().unwrap_or(list).trim()
}

/// The last entry of the last `X-Forwarded-For`; earlier ones are the client's word.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let value = headers.get_all("x-forwarded-for").iter().next_back()?;
    last(value.to_str().ok()?)
        .parse::<IpAddr>()
        .ok()
        .map(|address| address.to_canonical())
}

/// Addresses are counted by what one customer gets: one IPv4 address, or a /64.
fn bucket(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let prefix = u128::from(address) & !u128::from(u64::MAX);
            format!("{}/64", Ipv6Addr::from(prefix))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(proxies: &[&str], origins: &[&str]) -> Judge {
        Judge {
            proxies: proxies
                .iter()
                .map(|network| network.parse().unwrap())
                .collect(),
            origins: origins
                .iter()
                .filter_map(|origin| normal_origin(origin))
                .collect(),
        }
    }

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn origin(judge: &Judge, peer: &str, list: &[(&'static str, &str)]) -> Origin {
        judge
            .judge(peer.parse().unwrap(), &headers(list), None)
            .origin
    }

    #[test]
    fn the_origin_must_be_the_requests_own_host_or_configured() {
        let plain = judge(&[], &["https://app.example.org"]);
        let table: &[(&[(&'static str, &str)], Origin)] = &[
            (&[("host", "a.example")], Origin::Absent),
            (
                &[("host", "a.example"), ("origin", "http://a.example")],
                Origin::Trusted,
            ),
            (
                &[("host", "A.example:80"), ("origin", "http://a.example")],
                Origin::Trusted,
            ),
            (
                &[("host", "a.example"), ("origin", "https://a.example")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example:8025"), ("origin", "http://a.example")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "null")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "http://a.example.evil")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "http://a.example:99999")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "http://a.example:+80")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "http://a.example:")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "http://x@a.example")],
                Origin::Foreign,
            ),
            (
                &[("host", "a,b"), ("origin", "http://a,b")],
                Origin::Foreign,
            ),
            (
                &[
                    ("host", "a.example"),
                    ("sec-fetch-site", "same-origin"),
                    ("sec-fetch-site", "Cross-Site"),
                ],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("origin", "https://app.example.org")],
                Origin::Trusted,
            ),
            (
                &[
                    ("host", "a.example"),
                    ("origin", "http://a.example"),
                    ("origin", "http://b"),
                ],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("sec-fetch-site", "cross-site")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("sec-fetch-site", "same-site")],
                Origin::Foreign,
            ),
            (
                &[("host", "a.example"), ("sec-fetch-site", "same-origin")],
                Origin::Trusted,
            ),
            (
                &[
                    ("host", "a.example"),
                    ("origin", "http://a.example"),
                    ("sec-fetch-site", "cross-site"),
                ],
                Origin::Foreign,
            ),
            (
                &[
                    ("host", "a.example"),
                    ("origin", "https://a.example"),
                    ("x-forwarded-proto", "https"),
                ],
                Origin::Foreign,
            ),
        ];
        for (list, expected) in table {
            assert_eq!(origin(&plain, "192.0.2.1", list), *expected, "{list:?}");
        }
    }

    #[test]
    fn forwarding_headers_count_only_from_a_trusted_proxy() {
        let judge = judge(&["10.0.0.0/8"], &[]);
        let list = &[
            ("host", "lockgate:8025"),
            ("x-forwarded-host", "app.example.org"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "203.0.113.9, 198.51.100.7"),
            ("origin", "https://app.example.org"),
        ];
        let seen = judge.judge("10.1.2.3".parse().unwrap(), &headers(list), None);
        assert_eq!(
            seen,
            Caller {
                address: "198.51.100.7".into(),
                origin: Origin::Trusted,
                proxied: true
            }
        );
        let seen = judge.judge("192.0.2.1".parse().unwrap(), &headers(list), None);
        assert_eq!(
            seen,
            Caller {
                address: "192.0.2.1".into(),
                origin: Origin::Foreign,
                proxied: false
            }
        );
    }

    #[test]
    fn ipv6_is_counted_by_64_and_mapped_addresses_are_ipv4() {
        assert_eq!(
            bucket("2001:db8:1:2:3:4:5:6".parse().unwrap()),
            "2001:db8:1:2::/64"
        );
        let judge = judge(&[], &[]);
        let seen = judge.judge("::ffff:192.0.2.7".parse().unwrap(), &HeaderMap::new(), None);
        assert_eq!(seen.address, "192.0.2.7");
    }

    #[test]
    fn an_unreadable_forwarding_header_falls_back_to_the_peer() {
        let judge = judge(&["10.0.0.0/8"], &[]);
        let list = headers(&[("x-forwarded-for", "unknown")]);
        assert_eq!(
            judge
                .judge("10.0.0.1".parse().unwrap(), &list, None)
                .address,
            "10.0.0.1"
        );
    }

    /// Pieces of which attackers make origins and hosts.
    const PIECE: &str = "(a\\.example|http|https|://|:|@|/|\\.|:80|:443|:8025|evil|,| |%2e|\\[::1\\]|null|[ -~]){0,8}";

    proptest::proptest! {
        #[test]
        fn an_origin_in_its_normal_form_stays_as_it_is(text in PIECE) {
            if let Some(normal) = normal_origin(&text) {
                proptest::prop_assert_eq!(normal_origin(&normal), Some(normal.clone()));
                proptest::prop_assert_eq!(&normal.to_ascii_lowercase(), &normal);
                proptest::prop_assert!(!normal.contains(['@', ' ', ',']), "{}", normal);
            }
        }

        #[test]
        fn only_the_own_origin_is_trusted(origin in PIECE, host in PIECE) {
            let list = [("host", host.as_str()), ("origin", origin.as_str())];
            let valid = |text: &str| http::HeaderValue::from_str(text).is_ok();
            proptest::prop_assume!(valid(&origin) && valid(&host));
            let seen = self::origin(&judge(&[], &[]), "192.0.2.1", &list);
            // Another parser's view of the same origin.
            let uri = origin.trim().parse::<http::Uri>().ok();
            let scheme = uri.as_ref().and_then(http::Uri::scheme_str);
            let authority = uri.as_ref().and_then(http::Uri::authority);
            let same = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("http"))
                && authority.is_some_and(|authority| {
                    let plain = |text: &str| {
                        let text = text.trim().to_ascii_lowercase();
                        text.trim_end_matches('/').trim_end_matches(":80").to_owned()
                    };
                    plain(authority.as_str()) == plain(&host)
                });
            if seen == Origin::Trusted {
                proptest::prop_assert!(same, "{} for {}", origin, host);
            } else {
                proptest::prop_assert_eq!(seen, Origin::Foreign);
            }
        }

        #[test]
        fn nobody_names_an_own_address_or_host(
            names in proptest::collection::vec(0..6_usize, 0..6),
            values in proptest::collection::vec("[ -~]{0,40}|[0-9a-f:., ]{0,40}", 6),
        ) {
            const NAMES: [&str; 6] = [
                "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded",
                "x-real-ip", "origin",
            ];
            let list: Vec<_> = names.iter().zip(&values).map(|(at, value)| (NAMES[*at], value.as_str())).collect();
            let map = headers(&list);
            let peer = "192.0.2.1".parse().unwrap();
            let seen = judge(&[], &[]).judge(peer, &map, None);
            proptest::prop_assert_eq!((seen.address.as_str(), seen.proxied), ("192.0.2.1", false));
            // Behind a proxy it is always some address or prefix.
            let seen = judge(&["192.0.2.0/24"], &[]).judge(peer, &map, None);
            let address = seen.address.trim_end_matches("/64");
            proptest::prop_assert!(address.parse::<IpAddr>().is_ok(), "{}", seen.address);
        }
    }
}
