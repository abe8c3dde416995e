//! From a request to its answer: which resource is meant, and what every answer has in common.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, EXPECT, HeaderName, HeaderValue};
use hyper::service::{Service, service_fn};
use hyper::{Method, Request, Response, StatusCode, Version};
use windlass_actors::Unwritten;

use super::body::{Rest, Skipped, skip};
use super::call::Call;
use super::line::RequestId;
use super::openapi;
use super::problem::Problem;
use super::request::CALL;
use super::visit::{Next, Serving, Visit};

/// Names a request as the log does.
pub(super) const WINDLASS_REQUEST: HeaderName = HeaderName::from_static("windlass-request");
pub(super) const NOSNIFF: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));

/// Longest target of a request, bytes. The longest value of a parameter, every byte of it percent-encoded, fits.
const TARGET_BYTES_MAX: usize = 16 * 1024;

const OPERATIONS: &str = "/v1/operations";
const OPENAPI: &str = "/v1/openapi.json";

/// What an answer is made of.
pub(super) type Answer = Response<Full<Words>>;

/// What an answer says.
pub(super) enum Words {
    /// Of this door.
    Own(Bytes),
    /// Of a worker.
    Result(Unwritten),
}

impl From<Vec<u8>> for Words {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes.into())
    }
}

impl Buf for Words {
    fn remaining(&self) -> usize {
        match self {
            Self::Own(bytes) => bytes.remaining(),
            Self::Result(result) => result.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes.chunk(),
            Self::Result(result) => result.chunk(),
        }
    }

    fn advance(&mut self, n_bytes: usize) {
        match self {
            Self::Own(bytes) => bytes.advance(n_bytes),
            Self::Result(result) => result.advance(n_bytes),
        }
    }
}

/// Answers the requests of one connection. hyper keeps what answers the one that is served, in the same place for one
/// after another: a type that has no name needs no box of its own for each.
pub(super) fn service(
    visit: Arc<Visit>,
) -> impl Service<Request<Incoming>, Response = Answer, Error = Infallible, Future: Send + 'static> {
    service_fn(move |request| serve(&visit, request))
}

/// What is decided of a request before anything is awaited.
enum Step {
    Answer(Box<Answer>),
    /// Something is wrong with the HTTP of it.
    Fault(Problem),
    /// Refused, and counted already.
    Refused(Problem),
    Run(Call),
}

/// Decides at once, in the order in which requests were read; only then the body is looked at.
fn serve(
    visit: &Arc<Visit>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Answer, Infallible>> + Send + use<> {
    let mut serving = Serving::begin(Arc::clone(visit));
    let hall = &visit.hall;
    let id = RequestId { connection: hall.connection(), request: hall.next_request() };
    let step = decide(&serving, &request, id);
    let version = request.version();
    // A look at each is less than the way through the map's hashes.
    let expects_continue = request.headers().keys().any(|name| *name == EXPECT);
    // The head, and with it hyper's memory of what was read, ends here.
    let mut body = request.into_body();
    // A block and not a function, whose future would have room for each of these twice.
    async move {
        let (outcome, rest) = match step {
            Step::Answer(answer) => (Ok(named(*answer, id)), Rest::Skippable),
            Step::Fault(problem) => {
                serving.visit().hall.refused(problem.code);
                (Err(problem), Rest::Skippable)
            }
            Step::Refused(problem) => (Err(problem), Rest::Skippable),
            Step::Run(call) => call.run(&mut serving, &mut body).await,
        };
        let comes = rest == Rest::Skippable && version < Version::HTTP_2 && !body.is_end_stream();
        let skipped = match comes {
            false => Skipped::Whole,
            // Who waits for a 100 sends nothing, and is not told to.
            true if expects_continue => Skipped::Partly,
            true => skip(&mut body).await,
        };
        let mut answer = outcome.unwrap_or_else(|problem| told(problem, id));
        let next = serving.end();
        let headers = answer.headers_mut();
        if version >= Version::HTTP_2 {
            // RFC 9113 §8.2.2: there is no such thing there.
            headers.remove(CONNECTION);
        } else if skipped == Skipped::Partly || next == Next::Goodbye {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Ok(answer)
    }
}

fn decide(serving: &Serving, request: &Request<Incoming>, id: RequestId) -> Step {
    let visit = serving.visit();
    if let Err(foreign) = visit.hosts.check_again(request, visit.here, &visit.known_host) {
        return Step::Fault(Problem::of_http(foreign.status(), foreign.to_string()));
    }
    if visit.has_both_lengths(request) {
        let detail = "both Content-Length and Transfer-Encoding say how long the body is";
        return Step::Fault(Problem::of_http(StatusCode::BAD_REQUEST, detail).and_close());
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > TARGET_BYTES_MAX {
        let detail = format!("a target of {target} bytes is longer than {TARGET_BYTES_MAX} bytes");
        return Step::Fault(Problem::of_http(StatusCode::URI_TOO_LONG, detail));
    }
    let path = request.uri().path();
    let allowed = match path {
        OPERATIONS | OPENAPI => "GET, HEAD, OPTIONS",
        "*" => "GET, HEAD, POST, OPTIONS",
        _ if path.strip_prefix(CALL).is_some_and(|name| !name.is_empty() && !name.contains('/')) => {
            "POST, OPTIONS"
        }
        _ => {
            let detail = "no such resource; there are POST /v1/call/{operation}, GET /v1/operations and \
                          GET /v1/openapi.json";
            return Step::Fault(Problem::of_http(StatusCode::NOT_FOUND, detail));
        }
    };
    match (request.method(), path) {
        (&Method::OPTIONS, _) => Step::Answer(Box::new(options(allowed))),
        (&Method::GET | &Method::HEAD, OPERATIONS) => {
            Step::Answer(Box::new(json(visit.hall.catalogue_json())))
        }
        (&Method::GET | &Method::HEAD, OPENAPI) => {
            Step::Answer(Box::new(json(openapi::document(&visit.hall.settings()))))
        }
        (&Method::POST, path) if path.starts_with(CALL) => match Call::admit(serving, request, id) {
            Ok(call) => Step::Run(call),
            Err(problem) => Step::Refused(problem),
        },
        (method, _) => {
            let detail = format!("there is no {method} of this resource, only {allowed}");
            let problem = Problem::of_http(StatusCode::METHOD_NOT_ALLOWED, detail);
            Step::Fault(Problem { allow: Some(allowed), ..problem })
        }
    }
}

/// The answer to a request that has no result.
fn told(problem: Problem, id: RequestId) -> Answer {
    tracing::debug!(
        connection = id.connection,
        request = %id,
        status = problem.status.as_u16(),
        code = problem.code.name(),
        detail = %problem.detail.escape_debug(),
        "request refused or failed"
    );
    named(problem.into_response(id), id)
}

/// What every answer says; a result says so by itself.
fn named(mut answer: Answer, id: RequestId) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(WINDLASS_REQUEST, id.into());
    headers.insert(NOSNIFF.0, NOSNIFF.1);
    answer
}

fn json(body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Full::from(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Nothing is said of origins: no foreign one may ask.
fn options(allowed: &'static str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}
