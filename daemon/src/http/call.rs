//! One call of an operation: admitted from its head, its body read, its result on the way back.

use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Request, Response, Version};
use windlass_actors::operation::Output;
use windlass_actors::{Answered, Head, Ticket};

use super::body::{Refused, Rest, read};
use super::line::{RequestId, micros, server_timing};
use super::problem::Problem;
use super::request::Asked;
use super::service::Answer;
use super::visit::Serving;

/// A line of text, without a newline at its end: the result is exactly what the operation returned.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const BINARY: &str = "application/octet-stream";
// Checked once, by the compiler.
const TEXT_VALUE: HeaderValue = HeaderValue::from_static(TEXT);
const BINARY_VALUE: HeaderValue = HeaderValue::from_static(BINARY);

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// An admitted call.
pub(super) struct Call {
    ticket: Ticket,
    request: RequestId,
    traceparent: Option<String>,
    content_type: HeaderValue,
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
            content_type: if is_text { TEXT_VALUE } else { BINARY_VALUE },
            version: request.version(),
        })
    }

    /// Reads the body, has the work done, and answers. Dropping the future means that the client has left.
    pub(super) async fn run(
        self,
        serving: &mut Serving,
        mut body: Incoming,
    ) -> (Result<Answer, Problem>, Option<Incoming>) {
        let Self { mut ticket, request, traceparent, content_type, version } = self;
        let operation = ticket.declaration().name;
        let (input, read_at) = match read(&mut ticket, &mut body, version, serving.received_at).await {
            Ok(complete) => complete,
            Err(Refused { problem, rest }) => {
                return (Err(problem), (rest == Rest::Skippable).then_some(body));
            }
        };
        drop(body);
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
            Ok(Output(bytes)) => {
                let mut answer = Response::new(Full::new(bytes));
                let headers = answer.headers_mut();
                headers.insert(CONTENT_TYPE, content_type);
                headers.insert(SERVER_TIMING, server_timing(queue_time, service_time));
                Ok(answer)
            }
            Err(failure) => Err(Problem::from(&failure)),
        };
        (outcome, None)
    }
}
