//! The values of the headers that every answer has, written without the machinery of formatting.

use std::fmt;
use std::time::Duration;

use hyper::header::HeaderValue;

/// Longest value, bytes: two durations of twenty digits each and the words between them.
const LINE_BYTES_MAX: usize = 80;

/// Names a request as the log does: its connection, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestId {
    pub(super) connection: u64,
    /// From 1 on.
    pub(super) request: u64,
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.connection, self.request)
    }
}

impl From<RequestId> for HeaderValue {
    fn from(id: RequestId) -> Self {
        let mut line = Line::new();
        line.number(id.request);
        line.byte(b'-');
        line.number(id.connection);
        line.into_value()
    }
}

/// How long a request waited and ran (W3C Server Timing), milliseconds with the microseconds behind the point.
pub(super) fn server_timing(queue: Duration, service: Duration) -> HeaderValue {
    let mut line = Line::new();
    line.millis(service);
    line.text(", service;dur=");
    line.millis(queue);
    line.text("queue;dur=");
    line.into_value()
}

/// Whole microseconds; as many as a `u64` holds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A value that is written from its end to its beginning, which is the way in which the digits of a number come.
struct Line {
    bytes: [u8; LINE_BYTES_MAX],
    begin: usize,
}

impl Line {
    fn new() -> Self {
        Self { bytes: [0; LINE_BYTES_MAX], begin: LINE_BYTES_MAX }
    }

    fn byte(&mut self, byte: u8) {
        self.begin -= 1;
        self.bytes[self.begin] = byte;
    }

    #[inline(always)] // a text of known length is a few moves
    fn text(&mut self, text: &str) {
        let begin = self.begin - text.len();
        self.bytes[begin..self.begin].copy_from_slice(text.as_bytes());
        self.begin = begin;
    }

    fn digit(&mut self, digit: u64) {
        self.byte(b"0123456789"[(digit % 10) as usize]);
    }

    fn number(&mut self, mut number: u64) {
        loop {
            self.digit(number);
            number /= 10;
            if number == 0 {
                break;
            }
        }
    }

    fn millis(&mut self, duration: Duration) {
        let micros = micros(duration);
        for unit in [1, 10, 100] {
            self.digit(micros / unit);
        }
        self.byte(b'.');
        self.number(micros / 1000);
    }

    fn into_value(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.bytes[self.begin..]).expect("words and digits are visible")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_as_in_the_log() {
        for (connection, request) in [(1, 1), (10, 4711), (u64::MAX, u64::MAX)] {
            let id = RequestId { connection, request };
            assert_eq!(HeaderValue::from(id), id.to_string());
        }
    }

    #[test]
    fn timings_are_milliseconds_with_three_places() {
        let of = |queue, service| server_timing(Duration::from_micros(queue), Duration::from_micros(service));
        assert_eq!(of(0, 7), "queue;dur=0.000, service;dur=0.007");
        assert_eq!(of(1_000, 12_034_050), "queue;dur=1.000, service;dur=12034.050");
        assert_eq!(of(u64::MAX, u64::MAX).len(), 2 * 21 + "queue;dur=, service;dur=".len());
        assert_eq!(server_timing(Duration::MAX, Duration::MAX), of(u64::MAX, u64::MAX));
    }
}
