//! Browsers are hostile, too: whose pages may speak to us, and under which names we are reached.
//!
//! A page of another origin can send requests here, and after DNS rebinding even read the answers, unless the Host
//! that it believes to speak to is looked at. So a request is served when its Host is a loopback name or address, the
//! very address that the connection came in on, or a configured name; and its Origin, if it has one, is that Host.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{StatusCode, Uri};

use super::problem::Problem;

/// Says what a browser's page has to do with us (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Names under which the door is reached, besides the loopback ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// These names, without ports, in any case.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request may be served that came in on `local`.
    ///
    /// # Errors
    ///
    /// Why it is refused.
    pub(super) fn check(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        local: Option<SocketAddr>,
    ) -> Result<(), Problem> {
        let host = host_of(uri, headers)?;
        if !self.is_ours(host.host(), local) {
            let detail = format!(
                "host '{}' is neither a loopback name nor one of listen.http_hosts",
                host.as_str().escape_debug()
            );
            return Err(Problem::of_http(StatusCode::MISDIRECTED_REQUEST, detail));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let same = |origin: &[u8]| {
            let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str().as_bytes()))
        };
        if let Some(origin) = origins.find(|origin| !same(origin.as_bytes())) {
            let detail = format!("origin {origin:?} is not this host's own");
            return Err(Problem::of_http(StatusCode::FORBIDDEN, detail));
        }
        if headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site" || site == "same-site") {
            let detail = "asked for by a page of another origin";
            return Err(Problem::of_http(StatusCode::FORBIDDEN, detail));
        }
        Ok(())
    }

    fn is_ours(&self, host: &str, local: Option<SocketAddr>) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback()
                || local.is_some_and(|local| local.ip().to_canonical() == address)
                || self.0.iter().any(|name| name == bare);
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // RFC 6761 §6.3: these never leave the machine.
        name == "localhost" || name.ends_with(".localhost") || self.0.contains(&name)
    }
}

/// The one host that a request is for.
fn host_of(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let bad = |detail: &'static str| Problem::of_http(StatusCode::BAD_REQUEST, detail);
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(bad("more than one Host")),
        (Some(host), None) => Some(
            Authority::try_from(host.as_bytes())
                .ok()
                .filter(|host| !host.as_str().contains('@'))
                .ok_or_else(|| bad("the Host is not a host"))?,
        ),
        (None, None) => None,
    };
    // RFC 9112 §3.2.2: the target of a request, if it is absolute, overrides the Host.
    match (uri.authority(), named) {
        (Some(authority), None) => Ok(authority.clone()),
        (Some(authority), Some(named)) if *authority == named => Ok(named),
        (Some(_), Some(_)) => Err(bad("the Host is not that of the request's target")),
        (None, Some(named)) => Ok(named),
        (None, None) => Err(bad("there is no Host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: Option<&str>, origin: Option<&str>) -> Result<(), u16> {
        let hosts = Hosts::new(&["Jobs.Example".to_owned()]);
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(HOST, host.parse().unwrap());
        }
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        let local = Some("192.0.2.7:7411".parse().unwrap());
        hosts.check(&Uri::from_static("/v1/operations"), &headers, local).map_err(|p| p.status.as_u16())
    }

    #[test]
    fn loopback_the_bound_address_and_configured_names_are_ours() {
        for host in [
            "localhost",
            "localhost:7411",
            "LOCALHOST.",
            "app.localhost:80",
            "127.0.0.1:7411",
            "127.9.9.9",
            "[::1]:7411",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:9",
            "jobs.example:7411",
            "JOBS.example",
        ] {
            assert_eq!(check(Some(host), None), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_rebound_name_is_misdirected_and_no_host_is_bad() {
        for host in ["evil.example", "localhost.evil.example", "192.0.2.8", "127.0.0.1.evil.example", "[::2]"]
        {
            assert_eq!(check(Some(host), None), Err(421), "{host}");
        }
        for host in [None, Some(""), Some("a b"), Some("user@localhost")] {
            assert_eq!(check(host, None), Err(400), "{host:?}");
        }
    }

    #[test]
    fn only_the_hosts_own_origin_may_ask() {
        let host = Some("127.0.0.1:7411");
        assert_eq!(check(host, Some("http://127.0.0.1:7411")), Ok(()));
        for origin in ["null", "http://127.0.0.1", "http://localhost:7411", "https://evil.example", "file://"]
        {
            assert_eq!(check(host, Some(origin)), Err(403), "{origin}");
        }
    }
}
