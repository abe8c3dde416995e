//! Clients of the native protocol.
//!
//! - [`pipelined::Client`]: asynchronous, many requests in flight on one connection, answers in any order.
//! - [`blocking::Client`]: standard library sockets, one request at a time.
//! - [`Pipe`]: one connection driven by one task without a future per request, for load generators.
//!
//! All three share [`Request`], [`Response`], [`CallError`] and the reading of bytes; the first two also the rules of
//! what may be tried again. A request is sent a second time only where it certainly was not started, or where its
//! caller says that running it twice does no harm ([`Retry::Pure`]) and the daemon went away under it; not before
//! the daemon's `retry_after` and a random time are over; never beyond its deadline; and never more often than
//! [`Options::attempts_max`] and [`Options::retry_budget`] allow.
//!
//! With several [`Addresses`] each request goes to the less loaded of two daemons taken at random, by what they last
//! said of their load and what is under way there. One that refused or could not be reached is passed over
//! for a while, and a request that it refused goes to another at once.
//!
//! ```no_run
//! use windlass_protocol::client::{Addresses, Options, Request, blocking::Client};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let daemons: Addresses = "tcp://127.0.0.1:7410".parse()?;
//! let mut client = Client::connect(daemons, Options::named("example"))?;
//! let request = Request::new("hash").parameter("algorithm", "sha256").body("some text");
//! println!("{}", String::from_utf8_lossy(&client.call(&request)?.body));
//! client.close()?;
//! # Ok(())
//! # }
//! ```

pub mod blocking;
pub mod pipelined;

mod address;
mod decoder;
mod error;
mod link;
mod options;
mod outgoing;
mod pipe;
mod policy;
mod question;
mod request;
mod session;
mod socket;

#[cfg(test)]
mod tests;

pub use address::{Address, AddressError, Addresses};
pub use error::{CallError, Failure};
pub use options::{Backoff, Options, RetryBudget};
pub use pipe::{Outcome, Pipe, Template};
pub use request::{Pong, Priority, Request, Response, Retry, Terms, Totals};

pub use crate::code::{CodeClass, FailureCode};
pub use crate::message::{SUBJECT_CATALOGUE, SUBJECT_STATUS};
