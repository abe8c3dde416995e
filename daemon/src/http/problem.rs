//! What is told of a request that has no result: RFC 9457 problem details. The only file that knows which status a
//! failure has.

use std::borrow::Cow;
use std::time::Duration;

use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::json;
use windlass_actors::Failure;
use windlass_protocol::FailureCode;

use super::line::RequestId;
use super::service::Answer;

/// Media type of every problem (RFC 9457 §3).
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// When a busy daemon may be asked again, where nothing better is known.
const RETRY_AFTER_USUAL: Duration = Duration::from_secs(1);

/// Why there is no result.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) code: FailureCode,
    pub(super) detail: Cow<'static, str>,
    pub(super) retry_after: Option<Duration>,
    pub(super) retry_safe: bool,
    /// Methods that the resource has, where another one was asked for.
    pub(super) allow: Option<&'static str>,
    /// What becomes of the connection.
    pub(super) connection: Afterwards,
}

/// What becomes of the connection of a request that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Afterwards {
    /// The next request is read.
    Kept,
    /// It is closed.
    Closed,
}

impl From<&Failure> for Problem {
    fn from(failure: &Failure) -> Self {
        let status = status_of(failure.code);
        let busy = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        Self {
            status,
            code: failure.code,
            detail: failure.message.clone(),
            retry_after: failure.retry_after.or_else(|| busy.then_some(RETRY_AFTER_USUAL)),
            retry_safe: failure.retry_safe,
            allow: None,
            connection: Afterwards::Kept,
        }
    }
}

/// The status of each code; an unknown one is read by its ten.
pub(super) fn status_of(code: FailureCode) -> StatusCode {
    use windlass_protocol::CodeClass;
    match code {
        FailureCode::UNAUTHORIZED => StatusCode::UNAUTHORIZED,
        FailureCode::UNKNOWN_OPERATION => StatusCode::NOT_FOUND,
        FailureCode::INVALID_INPUT => StatusCode::UNPROCESSABLE_ENTITY,
        FailureCode::TOO_LARGE => StatusCode::PAYLOAD_TOO_LARGE,
        FailureCode::OVERLOADED => StatusCode::TOO_MANY_REQUESTS,
        FailureCode::DEADLINE_EXCEEDED => StatusCode::GATEWAY_TIMEOUT,
        code => match code.class() {
            CodeClass::Connection | CodeClass::Request => StatusCode::BAD_REQUEST,
            // Draining, or stopped because the drain is over: another process will do it.
            CodeClass::Capacity | CodeClass::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            CodeClass::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        },
    }
}

impl Problem {
    /// A fault of the HTTP around a request.
    pub(super) fn of_http(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code: FailureCode::PROTOCOL_ERROR,
            detail: detail.into(),
            retry_after: None,
            retry_safe: true,
            allow: None,
            connection: Afterwards::Kept,
        }
    }

    /// A parameter that cannot be one.
    pub(super) fn parameter(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::from(&Failure::refused(FailureCode::INVALID_PARAMETER, detail))
    }

    pub(super) fn and_close(self) -> Self {
        Self { connection: Afterwards::Closed, ..self }
    }

    fn json(&self, request: Option<RequestId>) -> Vec<u8> {
        let mut problem = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": windlass_protocol::Failure::bounded(&self.detail),
            "code": self.code.number(),
            "name": self.code.name(),
            "retry_safe": self.retry_safe,
        });
        if let Some(after) = self.retry_after {
            problem["retry_after_ms"] = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into();
        }
        if let Some(request) = request {
            problem["request"] = request.to_string().into();
        }
        let mut text = problem.to_string().into_bytes();
        text.push(b'\n');
        text
    }

    /// `Retry-After` counts whole seconds; too late is better than too early.
    fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|after| after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
    }

    /// The answer to a request.
    pub(super) fn into_response(self, request: RequestId) -> Answer {
        let mut response = Response::new(Full::from(self.json(Some(request))));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.connection == Afterwards::Closed {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// The same as bytes of HTTP/1.1, for a connection on which there is no request to answer.
    pub(super) fn to_words(&self) -> Vec<u8> {
        let body = self.json(None);
        let retry_after =
            self.retry_after_seconds().map(|s| format!("retry-after: {s}\r\n")).unwrap_or_default();
        let mut words = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {PROBLEM_JSON}\r\ncontent-length: {}\r\n{retry_after}\
             connection: close\r\n\r\n",
            self.status.as_u16(),
            self.status.canonical_reason().unwrap_or_default(),
            body.len(),
        )
        .into_bytes();
        words.extend(body);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_the_contract() {
        let expected = [400, 400, 401, 404, 400, 422, 413, 400, 429, 503, 504, 503, 500];
        let found = FailureCode::ALL.map(|code| status_of(code).as_u16());
        assert_eq!(found, expected);
        assert_eq!(status_of(FailureCode::from_number(29)), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status_of(FailureCode::from_number(4711)), StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[test]
    fn a_busy_daemon_says_when_to_come_back_in_whole_seconds_rounded_up() {
        let failure = Failure::refused(FailureCode::OVERLOADED, "busy");
        assert_eq!(Problem::from(&failure).retry_after_seconds(), Some(1));
        let failure = Failure { retry_after: Some(Duration::from_millis(2001)), ..failure };
        assert_eq!(Problem::from(&failure).retry_after_seconds(), Some(3));
        let failure = Failure::refused(FailureCode::INVALID_INPUT, "never");
        assert_eq!(Problem::from(&failure).retry_after_seconds(), None);
    }

    #[test]
    fn words_are_a_whole_answer() {
        let words = Problem::of_http(StatusCode::REQUEST_TIMEOUT, "too \"slow\"").to_words();
        let text = String::from_utf8(words).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["detail"], "too \"slow\"");
    }
}
