//! One call of an operation: admitted from its head, its body read, its result on the way back.

use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, Version};
use windlass_actors::{Answered, Head, Ticket};

use super::body::{Refused, Rest, read};
use super::line::{RequestId, micros, server_timing};
use super::problem::Problem;
use super::request::Asked;
use super::service::{Answer, NOSNIFF, WINDLASS_REQUEST, Words};
use super::visit::Serving;

/// A line of text, without a newline at its end: the result is exactly what the operation returned.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const BINARY: &str = "application/octet-stream";
// Checked once, by the compiler.
const TEXT_VALUE: HeaderValue = HeaderValue::from_static(TEXT);
const BINARY_VALUE: HeaderValue = HeaderValue::from_static(BINARY);

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// The headers of all results, made once: to copy a map and to replace values in it takes half as long as to look for
/// the place of each.
#[derive(Clone)]
pub(super) struct ResultHeaders(Arc<HeaderMap>);

impl ResultHeaders {
    pub(super) fn new() -> Self {
        let mut headers = HeaderMap::new();
        // Those that differ come first; a map without gaps is walked through in the order in which it was filled.
        for name in [CONTENT_TYPE, SERVER_TIMING, WINDLASS_REQUEST] {
            headers.insert(name, BINARY_VALUE);
        }
        headers.insert(NOSNIFF.0, NOSNIFF.1);
        Self(Arc::new(headers))
    }

    fn of(&self, request: RequestId, content_type: HeaderValue, timing: HeaderValue) -> HeaderMap {
        let mut headers = HeaderMap::clone(&self.0);
        for (place, value) in headers.values_mut().zip([content_type, timing, request.into()]) {
            *place = value;
        }
        headers
    }
}

/// An admitted call.
pub(super) struct Call {
    ticket: Ticket,
    request: RequestId,
    traceparent: Option<String>,
    is_text: bool,
    version: Version,
}

impl Call {
    /// Admits or refuses from the head alone.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(super) fn admit(
        serving: &Serving,
        request: &Request<Incoming>,
        id: RequestId,
    ) -> Result<Self, Problem> {
        let visit = serving.visit();
        let asked = Asked::read(request).inspect_err(|problem| visit.hall.refused(problem.code))?;
        let ticket = visit
            .hall
            .admit(&Head {
                operation: &asked.operation,
                parameters: &asked.parameters(),
                deadline: asked.deadline,
                class: asked.class,
                body_bytes: request.body().size_hint().exact(),
                received_at: serving.received_at,
            })
            .map_err(|failure| Problem::from(&failure))?;
        let is_text = ticket.declaration().result.is_text(ticket.arguments());
        Ok(Self {
            ticket,
            request: id,
            traceparent: asked.traceparent.map(str::to_owned),
            is_text,
            version: request.version(),
        })
    }

    /// Reads the body, has the work done, and answers. Dropping the future means that the client has left.
    pub(super) async fn run(
        self,
        serving: &mut Serving,
        body: &mut Incoming,
    ) -> (Result<Answer, Problem>, Rest) {
        let Self { mut ticket, request, traceparent, is_text, version } = self;
        let operation = ticket.declaration().name;
        let (input, read_at) = match read(&mut ticket, body, version, serving.received_at).await {
            Ok(complete) => complete,
            Err(Refused { problem, rest }) => return (Err(problem), rest),
        };
        serving.begin_work();
        let Answered { outcome, queue_time, service_time } = ticket.submit(input, read_at).await;
        tracing::debug!(
            connection = request.connection,
            %request,
            operation,
            traceparent,
            code = outcome.as_ref().err().map(|failure| failure.code.name()),
            queue_us = micros(queue_time),
            service_us = micros(service_time),
            "request answered"
        );
        let outcome = match outcome {
            Ok(result) => {
                let mut answer = Response::new(Full::new(Words::Result(result)));
                let content_type = if is_text { TEXT_VALUE } else { BINARY_VALUE };
                let timing = server_timing(queue_time, service_time);
                *answer.headers_mut() = serving.visit().result_headers.of(request, content_type, timing);
                Ok(answer)
            }
            Err(failure) => Err(Problem::from(&failure)),
        };
        // It was read to its end.
        (outcome, Rest::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_has_values_of_its_own() {
        let common = ResultHeaders::new();
        let of = |request, content_type| {
            let id = RequestId { connection: 3, request };
            common.of(id, content_type, HeaderValue::from_static("queue;dur=0.001"))
        };
        for (request, content_type) in [(1, TEXT_VALUE), (2, BINARY_VALUE)] {
            let headers = of(request, content_type.clone());
            assert_eq!(headers.len(), 4);
            assert_eq!(headers["content-type"], content_type);
            assert_eq!(headers[SERVER_TIMING], "queue;dur=0.001");
            assert_eq!(headers[WINDLASS_REQUEST], format!("3-{request}"));
            assert_eq!(headers["x-content-type-options"], "nosniff");
        }
    }
}
