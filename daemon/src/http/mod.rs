//! HTTP: one more front door, for curl and for everything without a client library.
//!
//! It ends in the same admission, workers and answers as the native protocol, through the [`Hall`] that the actors
//! lend it; nothing here queues, computes or decides who is admitted. hyper reads and writes HTTP itself; what is
//! here decides when a body is read, how long anybody is waited for, and how a connection ends.

mod body;
mod call;
mod conversation;
mod hush;
mod line;
mod openapi;
mod pattern;
mod problem;
mod request;
mod service;
mod visit;
mod wire;

use std::pin::Pin;

use windlass_actors::{Failure, FrontDoor, Hall, Stream};

use crate::guard::Hosts;
use call::ResultHeaders;
use problem::Problem;

/// The door, with what its operator says of it.
pub struct Http {
    hosts: Hosts,
    result_headers: ResultHeaders,
}

impl Http {
    /// A door that is reached under these names, besides the loopback ones.
    pub fn new(hosts: Hosts) -> Self {
        Self { hosts, result_headers: ResultHeaders::new() }
    }
}

impl FrontDoor for Http {
    fn scheme(&self) -> &'static str {
        "http"
    }

    fn serve(&self, stream: Stream, hall: Hall) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(visit::run(stream, hall, self.hosts.clone(), self.result_headers.clone()))
    }

    fn no_place(&self, failure: &Failure) -> Vec<u8> {
        // Who is turned away at the door is told so as the server's state, not as the client's rate.
        Problem { status: hyper::StatusCode::SERVICE_UNAVAILABLE, ..Problem::from(failure) }.to_words()
    }
}
