//! What is answered where.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::LazyLock;

use data_encoding::BASE64;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::process::Process;
use super::{Window, export};

/// Largest body that is read: a log level with directives.
const BODY_BYTES_MAX: usize = 1024;

/// The page, whole: no other file and no other place is asked for.
const PAGE: &str = include_str!("page.html");

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// Answers one request that came in by the address `here`.
pub(super) async fn answer(
    request: Request<Incoming>,
    window: &Window,
    here: IpAddr,
) -> Result<Answer, Infallible> {
    let answer = match window.hosts.check(&request, Some(here)) {
        Ok(()) => route(request, window).await,
        Err(foreign) => text(foreign.status(), format!("{foreign}\n")),
    };
    Ok(guarded(answer))
}

async fn route(request: Request<Incoming>, window: &Window) -> Answer {
    let path = request.uri().path();
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    match path {
        "/log-level" if request.method() == Method::PUT => return set_log_level(request, window).await,
        "/livez" | "/readyz" | "/metrics" | "/status.json" | "/" | "/log-level" if looks => {}
        "/log-level" => return not_allowed("GET, HEAD, PUT"),
        "/livez" | "/readyz" | "/metrics" | "/status.json" | "/" => return not_allowed("GET, HEAD"),
        _ => {
            return text(
                StatusCode::NOT_FOUND,
                "there are /, /livez, /readyz, /metrics, /status.json and /log-level\n",
            );
        }
    }
    match path {
        "/livez" => text(StatusCode::OK, "alive\n"),
        "/readyz" => ready(window),
        "/metrics" => of_type(METRICS, export::text(window)),
        "/status.json" => of_type(JSON, status(window)),
        "/log-level" => match window.log.level() {
            Some(level) => text(StatusCode::OK, format!("{level}\n")),
            None => text(StatusCode::INTERNAL_SERVER_ERROR, "the log is gone\n"),
        },
        _ => page(),
    }
}

fn ready(window: &Window) -> Answer {
    let (status, word) = match window.observer.get() {
        Some(observer) if observer.is_ready() => (StatusCode::OK, "ready"),
        Some(observer) => (StatusCode::SERVICE_UNAVAILABLE, observer.phase().name()),
        None => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
    };
    text(status, format!("{word}\n"))
}

/// The daemon's status with what only the process knows.
fn status(window: &Window) -> String {
    let mut status = match window.observer.get() {
        Some(observer) => observer.status(),
        None => json!({ "state": "starting" }),
    };
    let process = Process::now();
    status["process"] = json!({
        "id": std::process::id(),
        "version": env!("CARGO_PKG_VERSION"),
        "descriptors": process.descriptors,
        "descriptors_max": process.descriptors_max,
        "threads": process.threads,
        "resident_bytes": process.resident_bytes,
        "cpu_seconds": process.cpu.map(|cpu| cpu.as_secs_f64()),
        "log_lines_dropped": window.log.dropped_lines(),
    });
    status.to_string()
}

async fn set_log_level(request: Request<Incoming>, window: &Window) -> Answer {
    let too_large = || text(StatusCode::PAYLOAD_TOO_LARGE, "a level is no longer than 1024 bytes\n");
    let body = request.into_body();
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return too_large();
    }
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else { return too_large() };
    let body = body.to_bytes();
    let Ok(level) = std::str::from_utf8(&body).map(str::trim) else {
        return text(StatusCode::BAD_REQUEST, "the body is not text\n");
    };
    match window.log.set_level(level) {
        Ok(()) => {
            // At error level, so that it is seen whatever the new level is.
            tracing::error!(level, "the log level was changed; a reload sets it to the configured one again");
            text(StatusCode::OK, format!("{level}\n"))
        }
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn page() -> Answer {
    /// What the page may do: run its own script and style, by their digests, and ask this door.
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let digest = |open: &str, close: &str| {
            let inner =
                PAGE.split_once(open).and_then(|(_, rest)| rest.split_once(close)).map(|(inner, _)| inner);
            BASE64.encode(&Sha256::digest(inner.expect("the page has one of each")))
        };
        let (script, style) = (digest("<script>", "</script>"), digest("<style>", "</style>"));
        format!(
            "default-src 'none'; connect-src 'self'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    });
    let mut answer = of_type(HTML, PAGE);
    let policy = HeaderValue::from_str(&POLICY).expect("the policy is ASCII");
    answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    answer
}

fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("this is for {allowed}\n"));
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = of_type(TEXT, body);
    *answer.status_mut() = status;
    answer
}

fn of_type(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// What every answer says to browsers.
fn guarded(mut answer: Answer) -> Answer {
    const SAID: [(HeaderName, &str); 5] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in SAID {
        answer.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Hosts;
    use crate::log::LogHandle;
    use std::sync::OnceLock;
    use std::sync::atomic::AtomicU64;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_daemon_that_starts_is_alive_and_not_ready() {
        let window = Window {
            observer: OnceLock::new(),
            log: LogHandle::detached(),
            hosts: Hosts::default(),
            accepted: AtomicU64::new(0),
            end: Notify::new(),
        };
        let ready = ready(&window);
        assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(ready.into_body().collect().await.unwrap().to_bytes(), "starting\n");
        let status: serde_json::Value = serde_json::from_str(&status(&window)).unwrap();
        assert_eq!((&status["state"], status["process"]["threads"].is_number()), (&json!("starting"), true));
        let metrics = export::text(&window);
        assert!(metrics.contains("windlass_ready 0\n") && !metrics.contains("windlass_requests_total"));
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let page = page();
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(
            policy.starts_with("default-src 'none'; connect-src 'self'; script-src 'sha256-"),
            "{policy}"
        );
        assert_eq!(PAGE.matches("<script").count() + PAGE.matches("<style").count(), 2);
        for elsewhere in ["src=", "@import", "url(", "style=\"", "onclick", "https:"] {
            assert!(!PAGE.contains(elsewhere), "{elsewhere}");
        }
    }
}
