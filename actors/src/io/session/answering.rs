//! What is said of a request in the end.

use std::time::Duration;

use windlass_protocol::{Extensions, Kind, Reply};

use super::Session;
use crate::dispatch::{Answer, Failure};
use crate::telemetry::add;

impl Session {
    /// Writes what a worker says, unless the request was answered already.
    pub(crate) fn answers(&mut self, answers: Vec<Answer>) {
        let load = self.world.load();
        for answer in answers {
            if !self.inflight.take(answer.id) {
                continue;
            }
            match answer.outcome {
                Ok(output) => {
                    let (queue_time, service_time) = (micros(answer.queue_time), micros(answer.service_time));
                    self.totals.queue_micros += queue_time;
                    self.totals.service_micros += service_time;
                    self.totals.bytes_out += output.0.len() as u64;
                    add(&self.world.metrics.bytes_out, output.0.len() as u64);
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
                    self.totals.failures += 1;
                    self.write_failure(answer.id, &failure);
                }
            }
        }
    }

    pub(super) fn answer_if_open(&mut self, id: u64, failure: &Failure) {
        if self.inflight.take(id) {
            self.answer_failure(id, failure);
        }
    }

    /// A failure that no worker has counted.
    pub(super) fn answer_failure(&mut self, id: u64, failure: &Failure) {
        self.totals.failures += 1;
        self.world.metrics.refused(failure.code);
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
