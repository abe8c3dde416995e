//! Browsers are hostile, too: whose pages may speak to the HTTP and admin doors, and under which names these are reached.
//!
//! A page of another origin can send requests here, and after DNS rebinding even read the answers, unless the Host
//! that it believes to speak to is looked at. So a request is served when its Host is a loopback name or address, the
//! very address that the connection came in on, or a configured name; and its Origin, if it has one, is that Host.
//! Requests without an Origin, as of images and scripts, say where they come from, unless the browser is from before
//! 2023. Following a link is fine: it does no work, and the page that has it sees nothing of what comes.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode, Uri};

/// Say what a browser's page has to do with us, and what the request is for (W3C Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// Names under which the doors are reached, besides the loopback ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(Arc<[String]>);

/// The Host of a connection's first request that was served, which is most probably that of the others.
#[derive(Debug, Default)]
pub(crate) struct Known(OnceLock<Box<[u8]>>);

/// Why a request is turned away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Foreign {
    /// It does not say for which host it is, or says two things.
    #[error("{0}")]
    NoHost(&'static str),
    /// It is for another host.
    #[error("host '{0}' is neither a loopback name nor one of listen.http_hosts")]
    Host(String),
    /// It was made by a page of another place, which it names.
    #[error("origin {0} is not this host's own")]
    Origin(String),
    /// The same, unnamed.
    #[error("asked for by a page of another origin")]
    Page,
}

impl Foreign {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::NoHost(_) => StatusCode::BAD_REQUEST,
            Self::Host(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin(_) | Self::Page => StatusCode::FORBIDDEN,
        }
    }
}

impl Hosts {
    /// These names and addresses, without ports, in any case.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Whether a request may be served whose connection came in by the address `here`.
    ///
    /// # Errors
    ///
    /// Why it is turned away.
    pub(crate) fn check<B>(&self, request: &Request<B>, here: Option<IpAddr>) -> Result<(), Foreign> {
        let headers = request.headers();
        let host = host_of(request.uri(), headers)?;
        if !self.is_ours(host.host(), here) {
            return Err(Foreign::Host(host.as_str().escape_debug().to_string()));
        }
        if let Some(origin) = headers.get_all(ORIGIN).iter().find(|origin| !is_of(origin, &host)) {
            return Err(Foreign::Origin(format!("{origin:?}")));
        }
        let says = |name: &HeaderName, what: &[&str]| {
            headers.get_all(name).iter().any(|value| what.iter().any(|what| value == what))
        };
        let follows_link = matches!(*request.method(), Method::GET | Method::HEAD)
            && says(&SEC_FETCH_MODE, &["navigate"])
            && headers.get_all(&SEC_FETCH_MODE).iter().count() == 1;
        if says(&SEC_FETCH_SITE, &["cross-site", "same-site"]) && !follows_link {
            return Err(Foreign::Page);
        }
        Ok(())
    }

    /// The same, without taking apart again what was found to be ours. What is `known` is of one connection.
    ///
    /// # Errors
    ///
    /// Why it is turned away.
    pub(crate) fn check_again<B>(
        &self,
        request: &Request<B>,
        here: Option<IpAddr>,
        known: &Known,
    ) -> Result<(), Foreign> {
        if known.covers(request) {
            return Ok(());
        }
        self.check(request, here)?;
        if let Some(host) = request.headers().get(HOST) {
            known.0.get_or_init(|| host.as_bytes().into());
        }
        Ok(())
    }

    /// A name could be made to point here by whoever owns it; an address could not.
    fn is_ours(&self, host: &str, here: Option<IpAddr>) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            let is_it = |name: &String| name.parse().is_ok_and(|name: IpAddr| name.to_canonical() == address);
            return address.is_loopback()
                || here.is_some_and(|here| here.to_canonical() == address)
                || self.0.iter().any(is_it);
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        // RFC 6761 §6.3: these never leave the machine.
        name == "localhost" || name.ends_with(".localhost") || self.0.contains(&name)
    }
}

impl Known {
    /// Whether a request is for the known host, byte for byte, and says nothing else that is looked at.
    fn covers<B>(&self, request: &Request<B>) -> bool {
        let Some(known) = self.0.get().filter(|_| request.uri().authority().is_none()) else { return false };
        let mut n_hosts = 0;
        request.headers().iter().all(|(name, value)| match name.as_str() {
            "host" => {
                n_hosts += 1;
                value.as_bytes() == &**known
            }
            "origin" | "sec-fetch-site" => false,
            _ => true,
        }) && n_hosts == 1
    }
}

fn is_of(origin: &HeaderValue, host: &Authority) -> bool {
    let origin = origin.as_bytes();
    // A proxy in front may speak TLS, and hand on the Host that it was given.
    let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str().as_bytes()))
}

/// The one host that a request is for.
fn host_of(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Foreign> {
    let mut hosts = headers.get_all(HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (_, Some(_)) => return Err(Foreign::NoHost("more than one Host")),
        (Some(host), None) => Some(
            Authority::try_from(host.as_bytes())
                .ok()
                .filter(|host| !host.as_str().contains('@'))
                .ok_or(Foreign::NoHost("the Host is not a host"))?,
        ),
        (None, None) => None,
    };
    // RFC 9112 §3.2.2: the target of a request, if it is absolute, overrides the Host.
    match (uri.authority(), named) {
        (Some(authority), None) => Ok(authority.clone()),
        (Some(authority), Some(named)) if *authority == named => Ok(named),
        (Some(_), Some(_)) => Err(Foreign::NoHost("the Host is not that of the request's target")),
        (None, Some(named)) => Ok(named),
        (None, None) => Err(Foreign::NoHost("there is no Host")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(method: Method, headers: &[(&str, &str)]) -> Result<(), u16> {
        let hosts = Hosts::new(&["Jobs.Example".to_owned(), "fd00:0::7".to_owned()]);
        let mut request = Request::builder().method(method).uri("/v1/operations");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let here = Some("192.0.2.7".parse().unwrap());
        hosts.check(&request.body(()).unwrap(), here).map_err(|foreign| foreign.status().as_u16())
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
            "[::1]",
            "[::ffff:127.0.0.1]",
            "192.0.2.7:9",
            "jobs.example:7411",
            "JOBS.example",
            "[fd00::7]:80",
        ] {
            assert_eq!(checked(Method::POST, &[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn names_that_could_be_made_to_point_here_are_misdirected_and_no_host_is_bad() {
        for host in [
            "evil.example",
            "evil.example:7412",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.8",
            "0.0.0.0",
            "127.1",
            "0x7f.1",
            "[::2]",
        ] {
            assert_eq!(checked(Method::GET, &[("host", host)]), Err(421), "{host}");
        }
        for host in ["", "a b", "user@localhost", "[::1", "::1"] {
            let refused = checked(Method::GET, &[("host", host)]);
            assert!(matches!(refused, Err(400 | 421)), "{host}: {refused:?}");
        }
        assert_eq!(checked(Method::GET, &[]), Err(400));
        assert_eq!(checked(Method::GET, &[("host", "localhost"), ("host", "evil.example")]), Err(400));
    }

    /// In HTTP/2, whose `:authority` becomes that of the URI, there need be no Host.
    #[test]
    fn the_authority_of_the_target_is_held_to_the_same_rules() {
        let checked = |uri: &str, host: Option<&str>| {
            let mut request = Request::builder().uri(uri);
            if let Some(host) = host {
                request = request.header(HOST, host);
            }
            let request = request.body(()).unwrap();
            Hosts::default().check(&request, None).map_err(|foreign| foreign.status().as_u16())
        };
        assert_eq!(checked("http://localhost:7411/", None), Ok(()));
        assert_eq!(checked("http://localhost:7411/", Some("localhost:7411")), Ok(()));
        assert_eq!(checked("http://evil.example/", None), Err(421));
        assert_eq!(checked("http://evil.example/", Some("localhost")), Err(400));
        assert_eq!(checked("http://localhost/", Some("evil.example")), Err(400));
    }

    #[test]
    fn a_known_host_excuses_nothing_but_itself() {
        let known = Known::default();
        let checked = |uri: &str, headers: &[(&str, &str)]| {
            let mut request = Request::builder().method(Method::POST).uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(()).unwrap();
            let checked = Hosts::default().check_again(&request, None, &known);
            checked.map_err(|foreign| foreign.status().as_u16())
        };
        let (ours, evil) = (("host", "localhost:7411"), ("host", "evil.example"));
        assert_eq!(checked("/", &[evil]), Err(421));
        for _ in 0..2 {
            assert_eq!(checked("/", &[ours, ("accept", "*/*")]), Ok(()));
        }
        assert_eq!(known.0.get().map(|host| &**host), Some(&b"localhost:7411"[..]));
        assert_eq!(checked("/", &[evil]), Err(421));
        assert_eq!(checked("/", &[]), Err(400));
        assert_eq!(checked("/", &[ours, ours]), Err(400));
        assert_eq!(checked("/", &[ours, evil]), Err(400));
        assert_eq!(checked("http://evil.example/", &[ours]), Err(400));
        assert_eq!(checked("/", &[ours, ("origin", "http://evil.example")]), Err(403));
        assert_eq!(checked("/", &[ours, ("sec-fetch-site", "cross-site")]), Err(403));
        assert_eq!(checked("/", &[("host", "127.0.0.1")]), Ok(()));
    }

    #[test]
    fn only_the_hosts_own_origin_may_ask() {
        let host = ("host", "127.0.0.1:7411");
        assert_eq!(checked(Method::POST, &[host, ("origin", "http://127.0.0.1:7411")]), Ok(()));
        for origin in ["null", "http://127.0.0.1", "http://localhost:7411", "https://evil.example", "file://"]
        {
            assert_eq!(checked(Method::POST, &[host, ("origin", origin)]), Err(403), "{origin}");
        }
        let both = [host, ("origin", "http://127.0.0.1:7411"), ("origin", "http://evil.example")];
        assert_eq!(checked(Method::POST, &both), Err(403));
    }

    #[test]
    fn what_a_page_of_another_site_embeds_is_refused_and_its_links_may_be_followed() {
        let host = ("host", "localhost:7412");
        let (site, mode) = (|site| ("sec-fetch-site", site), |mode| ("sec-fetch-mode", mode));
        for foreign in ["cross-site", "same-site"] {
            assert_eq!(checked(Method::GET, &[host, site(foreign)]), Err(403));
            assert_eq!(checked(Method::GET, &[host, site(foreign), mode("no-cors")]), Err(403));
            assert_eq!(checked(Method::GET, &[host, site(foreign), mode("navigate")]), Ok(()));
            // A form does more than look.
            assert_eq!(checked(Method::POST, &[host, site(foreign), mode("navigate")]), Err(403));
        }
        assert_eq!(checked(Method::GET, &[host, site("same-origin"), mode("cors")]), Ok(()));
    }
}
