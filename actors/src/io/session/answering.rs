//! What is said of a request in the end.

use std::time::Duration;

use windlass_protocol::{Extensions, Kind, Reply};

use super::Session;
use super::turn::Row;
use crate::dispatch::{Answers, Failure};
use crate::telemetry::{Asked, add};

impl Session {
    /// Writes what a worker says, unless the request was answered already.
    pub(crate) fn answers(&mut self, answers: Answers) {
        let load = self.world.load();
        self.outbox.expect(&answers);
        let mut replied = Row::default();
        let mut bytes_out = 0;
        for mut answer in answers {
            let Some(asked) = self.inflight.take(answer.id) else { continue };
            match answer.outcome {
                Ok(output) => {
                    if let Some((asked, n)) = replied.add(asked) {
                        self.world.metrics.replied(asked, n);
                    }
                    let (queue_time, service_time) = (micros(answer.queue_time), micros(answer.service_time));
                    self.totals.queue_micros += queue_time;
                    self.totals.service_micros += service_time;
                    bytes_out += output.0.len() as u64;
                    answer.held.shrink_to(output.0.len() as u64);
                    let reply = Reply {
                        queue_time,
                        service_time,
                        load,
                        body_total: None,
                        extensions: Extensions::default(),
                    };
                    self.outbox.push_answer(Kind::Reply, answer.id, &reply, output.0, answer.held);
                }
                Err(failure) => {
                    self.answer_failure(answer.id, asked, &failure);
                }
            }
        }
        if let Some((asked, n)) = replied.end() {
            self.world.metrics.replied(asked, n);
        }
        self.totals.bytes_out += bytes_out;
        add(&self.world.metrics.bytes_out, bytes_out);
    }

    pub(super) fn answer_if_open(&mut self, id: u64, failure: &Failure) {
        if let Some(asked) = self.inflight.take(id) {
            self.answer_failure(id, asked, failure);
        }
    }

    /// Counts a failure of a request and writes it. The right to answer was taken before.
    pub(super) fn answer_failure(&mut self, id: u64, asked: Asked, failure: &Failure) {
        self.totals.failures += 1;
        self.world.metrics.failed(asked, failure);
        self.write_failure(id, failure);
    }

    pub(super) fn write_failure(&mut self, id: u64, failure: &Failure) {
        let header = windlass_protocol::Failure {
            code: failure.code.number(),
            message: windlass_protocol::Failure::bounded(&failure.message),
            retry_after: failure.retry_after.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            retry_safe: failure.retry_safe,
            load: self.world.load(),
            extensions: Extensions::default(),
        };
        self.outbox.push_frame(Kind::Failure, id, &header, &[]);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
