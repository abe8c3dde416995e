//! The head of a call: operation, parameters, deadline, priority, taken from the path, the query and the headers.

use std::borrow::Cow;
use std::time::Duration;

use hyper::Request;
use hyper::header::HeaderValue;
use percent_encoding::percent_decode_str;
use windlass_actors::Class;
use windlass_actors::units::parse_duration;
use windlass_protocol::limits::{NAME_BYTES_MAX, PARAMETERS_MAX, VALUE_BYTES_MAX};

use super::problem::Problem;

/// Before the name of the operation.
pub(super) const CALL: &str = "/v1/call/";
/// What every header of ours begins with.
const OURS: &str = "windlass-";
/// `Windlass-Param-KEY: value`, which keeps secrets out of URLs. Behind [`OURS`].
const PARAMETER: &str = "param-";
/// A duration such as `250ms`.
pub(super) const DEADLINE: &str = "windlass-deadline";
/// `interactive` or `batch`.
pub(super) const PRIORITY: &str = "windlass-priority";
const TRACEPARENT: &str = "traceparent";

/// Texts that were decoded only where they had to be.
pub(super) struct Asked<'a> {
    pub(super) operation: Cow<'a, str>,
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) deadline: Option<Duration>,
    pub(super) class: Class,
    pub(super) traceparent: Option<&'a str>,
}

impl<'a> Asked<'a> {
    /// Reads a head whose path begins with [`CALL`].
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub(super) fn read<B>(head: &'a Request<B>) -> Result<Self, Problem> {
        let name = head.uri().path().strip_prefix(CALL).unwrap_or_default();
        let operation = if name.contains('%') {
            percent_decode_str(name)
                .decode_utf8()
                .map_err(|_| Problem::parameter("the name of the operation is not UTF-8"))?
        } else {
            Cow::Borrowed(name)
        };
        let mut parameters = Vec::new();
        if let Some(query) = head.uri().query() {
            for pair in query.split('&').filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                parameters.push((form_decoded(key)?, form_decoded(value)?));
            }
        }
        let (mut deadline, mut priority, mut traceparent) = (Given::Never, Given::Never, None);
        // Once through all of them is less than a look for each that most requests do not have.
        for (name, value) in head.headers() {
            let name = name.as_str();
            let Some(ours) = name.strip_prefix(OURS) else {
                if name == TRACEPARENT && traceparent.is_none() {
                    traceparent = Some(value);
                }
                continue;
            };
            if let Some(key) = ours.strip_prefix(PARAMETER) {
                let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
                    Problem::parameter(format!("the value of header Windlass-Param-{key} is not UTF-8"))
                })?;
                parameters.push((Cow::Borrowed(key), Cow::Borrowed(value)));
            } else if name == DEADLINE {
                deadline.note(value);
            } else if name == PRIORITY {
                priority.note(value);
            }
        }
        check_limits(&parameters)?;
        let deadline = deadline
            .once(DEADLINE)?
            .map(|text| {
                parse_duration(text)
                    .map_err(|error| Problem::parameter(format!("header Windlass-Deadline: {error}")))
            })
            .transpose()?;
        let class = match priority.once(PRIORITY)? {
            None | Some("interactive") => Class::Interactive,
            Some("batch") => Class::Batch,
            Some(other) => {
                let found: String = other.chars().take(NAME_BYTES_MAX).collect();
                return Err(Problem::parameter(format!(
                    "header Windlass-Priority: '{}' is not one of interactive, batch",
                    found.escape_debug()
                )));
            }
        };
        let traceparent = traceparent.and_then(trace_context);
        Ok(Self { operation, parameters, deadline, class, traceparent })
    }

    /// The parameters as everybody else takes them.
    pub(super) fn parameters(&self) -> Vec<(&str, &str)> {
        self.parameters.iter().map(|(key, value)| (&**key, &**value)).collect()
    }
}

/// The same limits as on the wire of the native protocol.
fn check_limits(parameters: &[(Cow<'_, str>, Cow<'_, str>)]) -> Result<(), Problem> {
    if parameters.len() > PARAMETERS_MAX {
        let found = parameters.len();
        return Err(Problem::parameter(format!(
            "{found} parameters are more than the {PARAMETERS_MAX} allowed"
        )));
    }
    if let Some((key, _)) = parameters.iter().find(|(key, _)| key.len() > NAME_BYTES_MAX) {
        let found = key.len();
        let detail = format!("a parameter's name of {found} bytes is longer than {NAME_BYTES_MAX} bytes");
        return Err(Problem::parameter(detail));
    }
    if let Some((key, value)) = parameters.iter().find(|(_, value)| value.len() > VALUE_BYTES_MAX) {
        let detail = format!(
            "parameter '{}': a value of {} bytes is longer than {VALUE_BYTES_MAX} bytes",
            key.escape_debug(),
            value.len()
        );
        return Err(Problem::parameter(detail));
    }
    Ok(())
}

/// A piece of a query, as the URL standard writes forms: `+` is a space, `%2B` a plus.
fn form_decoded(text: &str) -> Result<Cow<'_, str>, Problem> {
    let not_utf8 = |_| Problem::parameter("a parameter of the query is not UTF-8");
    if !text.contains('+') {
        return percent_decode_str(text).decode_utf8().map_err(not_utf8);
    }
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8().map(|text| Cow::Owned(text.into_owned())).map_err(not_utf8)
}

/// The values of a header that may be given once.
#[derive(Clone, Copy)]
enum Given<'a> {
    Never,
    Once(&'a HeaderValue),
    Often,
}

impl<'a> Given<'a> {
    fn note(&mut self, value: &'a HeaderValue) {
        *self = match self {
            Self::Never => Self::Once(value),
            Self::Once(_) | Self::Often => Self::Often,
        };
    }

    fn once(self, name: &'static str) -> Result<Option<&'a str>, Problem> {
        match self {
            Self::Never => Ok(None),
            Self::Often => Err(Problem::parameter(format!("header {name} is given more than once"))),
            Self::Once(value) => value
                .to_str()
                .map(|text| Some(text.trim()))
                .map_err(|_| Problem::parameter(format!("header {name} is not visible ASCII"))),
        }
    }
}

/// A trace context that is one (W3C Trace Context §3.2: `version-trace-parent-flags`); anything else is ignored.
fn trace_context(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let parts: Vec<&str> = text.splitn(5, '-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    (lengths == [2, 32, 16, 2] && parts.iter().all(|part| is_hex(part))).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers<'a> = &'a [(&'static str, &'a [u8])];

    fn parts(uri: &str, headers: Headers<'_>) -> Request<()> {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap()
    }

    #[test]
    fn path_query_and_headers_are_decoded() {
        let head = parts(
            "/v1/call/pass%77ord-verify?a=1%202+3&b=%2B&c&d=",
            &[("windlass-param-hash", b"$argon2id$+/=\xc3\xa4"), (DEADLINE, b"250ms"), (PRIORITY, b"batch")],
        );
        let asked = Asked::read(&head).unwrap();
        assert_eq!(asked.operation, "password-verify");
        assert_eq!(
            asked.parameters(),
            [("a", "1 2 3"), ("b", "+"), ("c", ""), ("d", ""), ("hash", "$argon2id$+/=ä")]
        );
        assert_eq!(asked.deadline, Some(Duration::from_millis(250)));
        assert_eq!(asked.class, Class::Batch);
    }

    #[test]
    fn what_cannot_be_read_is_a_bad_request() {
        let long = format!("/v1/call/echo?delay={}", "9".repeat(5000));
        let many = format!("/v1/call/echo?{}", "a=1&".repeat(65));
        let cases: [(&str, Headers<'_>); 9] = [
            ("/v1/call/%ff", &[]),
            ("/v1/call/echo?a=%ff", &[]),
            ("/v1/call/echo?a=+%ff", &[]),
            (&long, &[]),
            (&many, &[]),
            ("/v1/call/echo", &[("windlass-param-a", b"\xff")]),
            ("/v1/call/echo", &[(DEADLINE, b"soon")]),
            ("/v1/call/echo", &[(DEADLINE, b"1s"), (DEADLINE, b"2s")]),
            ("/v1/call/echo", &[(PRIORITY, b"urgent")]),
        ];
        for (uri, headers) in cases {
            let problem = Asked::read(&parts(uri, headers)).err().expect(uri);
            assert_eq!(problem.status.as_u16(), 400, "{uri}");
        }
    }

    #[test]
    fn only_a_trace_parent_is_logged() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let of = |text: &str| {
            let head = parts("/v1/call/echo", &[("traceparent", text.as_bytes())]);
            Asked::read(&head).unwrap().traceparent.map(str::to_owned)
        };
        assert_eq!(of(good).as_deref(), Some(good));
        for bad in ["", "00-0af7", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", &good.repeat(2)]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
