//! Who may look: programs, and pages that this door served itself. A page from elsewhere, or one whose name was made
//! to point here (DNS rebinding), may not.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{HOST, HeaderValue, ORIGIN};

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    /// Its Host is missing, given twice, or names another place than this.
    Host,
    /// It was made by a page of another place.
    Origin,
}

impl Foreign {
    /// What the stranger is told.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Host => "this door answers to localhost and to its own address, not to this Host\n",
            Self::Origin => "this door does not answer to pages of other origins\n",
        }
    }
}

/// Lets a request to `here`, the address that its connection came in by, pass or not.
///
/// A name other than localhost could be made to point here by whoever owns it; an address could not.
pub(super) fn check(headers: &HeaderMap, here: IpAddr) -> Result<(), Foreign> {
    let host = only(headers, HOST.as_str()).and_then(|host| host.to_str().ok()).ok_or(Foreign::Host)?;
    if !is_here(host, here) {
        return Err(Foreign::Host);
    }
    for origin in headers.get_all(ORIGIN) {
        let own = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        if !own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return Err(Foreign::Origin);
        }
    }
    // Requests without Origin, as of images and scripts, say where they come from here. Following a link is fine.
    let says = |name, what| only(headers, name).is_some_and(|value| value == what);
    let elsewhere = says("sec-fetch-site", "cross-site") || says("sec-fetch-site", "same-site");
    if elsewhere && !says("sec-fetch-mode", "navigate") {
        return Err(Foreign::Origin);
    }
    Ok(())
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

fn is_here(host: &str, here: IpAddr) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inner, port)) if port.is_empty() || port.starts_with(':') => inner,
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback() || address == here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&'static str, &str)]) -> Result<(), Foreign> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(&map, "192.0.2.7".parse().unwrap())
    }

    #[test]
    fn localhost_loopback_and_the_own_address_are_here() {
        for host in [
            "localhost",
            "LocalHost:7412",
            "127.0.0.1:7412",
            "127.8.8.8",
            "[::1]:7412",
            "[::1]",
            "192.0.2.7:80",
        ] {
            assert_eq!(checked(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn names_that_could_be_made_to_point_here_are_not() {
        for host in [
            "evil.example",
            "evil.example:7412",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "0.0.0.0",
            "192.0.2.8",
            "[::1",
            "[::1]x",
            "",
            "::1",
            "127.1",
            "0x7f.1",
        ] {
            assert_eq!(checked(&[("host", host)]), Err(Foreign::Host), "{host}");
        }
        assert_eq!(checked(&[]), Err(Foreign::Host));
        assert_eq!(checked(&[("host", "localhost"), ("host", "evil.example")]), Err(Foreign::Host));
    }

    #[test]
    fn pages_of_other_origins_are_turned_away() {
        let host = ("host", "localhost:7412");
        for origin in [
            "http://evil.example",
            "null",
            "https://localhost:7412",
            "http://localhost:7411",
            "http://127.0.0.1:7412",
        ] {
            assert_eq!(checked(&[host, ("origin", origin)]), Err(Foreign::Origin), "{origin}");
        }
        assert_eq!(checked(&[host, ("origin", "http://localhost:7412")]), Ok(()));
        let cross = ("sec-fetch-site", "cross-site");
        assert_eq!(checked(&[host, cross, ("sec-fetch-mode", "no-cors")]), Err(Foreign::Origin));
        assert_eq!(checked(&[host, cross, ("sec-fetch-mode", "navigate")]), Ok(()));
        assert_eq!(checked(&[host, ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")]), Ok(()));
    }
}
