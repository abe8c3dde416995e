//! Numbers made of two looks at the status: rates, utilisation, percentiles.

use std::collections::VecDeque;

use serde_json::Value;

use crate::reading::{number, numbers, percentile};

/// Looks that are kept: what the widest terminal shows of the throughput.
const LOOKS_MAX: usize = 400;

/// Percentiles are of what came since this many looks ago.
const RECENT: usize = 10;

/// What was seen, oldest first.
#[derive(Default)]
pub(super) struct Past {
    looks: VecDeque<Value>,
    /// Why the last look failed, if it did.
    pub(super) lost: Option<String>,
}

impl Past {
    /// Adds a look. One at another process begins anew.
    pub(super) fn add(&mut self, status: Value) {
        self.lost = None;
        if self
            .looks
            .back()
            .is_some_and(|last| number(&status, "/uptime_seconds") < number(last, "/uptime_seconds"))
        {
            self.looks.clear();
        }
        if self.looks.len() == LOOKS_MAX {
            self.looks.pop_front();
        }
        self.looks.push_back(status);
    }

    pub(super) fn lose(&mut self, why: String) {
        self.lost = Some(why);
    }

    pub(super) fn last(&self) -> Option<&Value> {
        self.looks.back()
    }

    fn before(&self, looks: usize) -> Option<&Value> {
        let place = self.looks.len().checked_sub(2)?.saturating_sub(looks.saturating_sub(1));
        self.looks.get(place)
    }

    /// Requests done per second between each two looks, oldest first.
    pub(super) fn throughput(&self) -> Vec<f64> {
        let pairs = self.looks.iter().zip(self.looks.iter().skip(1));
        pairs.map(|(then, now)| per_second(then, now, done(now) - done(then))).collect()
    }

    /// The share of the last interval that a worker worked.
    pub(super) fn utilisation(&self, worker: usize) -> Option<f64> {
        let (then, now) = (self.before(1)?, self.last()?);
        let path = format!("/workers/{worker}/busy_seconds");
        Some(per_second(then, now, number(now, &path) - number(then, &path)).clamp(0.0, 1.0))
    }

    /// Requests for an operation that were done per second, lately.
    pub(super) fn rate(&self, operation: &str) -> Option<f64> {
        let (then, now) = (self.before(1)?, self.last()?);
        let of = |status: &Value| status["requests"][operation]["done"].as_f64().unwrap_or(0.0);
        Some(per_second(then, now, of(now) - of(then)))
    }

    /// A percentile of the operation's times of one kind, `queue` or `service`, of the last looks; seconds.
    pub(super) fn percentile(&self, operation: &str, kind: &str, share: f64) -> Option<f64> {
        let (then, now) = (self.before(RECENT)?, self.last()?);
        let counts =
            |status: &Value| -> Vec<f64> { numbers(&status["histograms"]["operations"][operation][kind]) };
        let (before, mut counts) = (counts(then), counts(now));
        for (count, before) in counts.iter_mut().zip(before) {
            *count -= before;
        }
        percentile(&counts, &numbers(&now["histograms"]["bounds_seconds"]), share)
    }
}

fn done(status: &Value) -> f64 {
    let operations = status["requests"].as_object();
    operations.into_iter().flatten().map(|(_, outcomes)| outcomes["done"].as_f64().unwrap_or(0.0)).sum()
}

fn per_second(then: &Value, now: &Value, what: f64) -> f64 {
    let seconds = number(now, "/uptime_seconds") - number(then, "/uptime_seconds");
    if seconds > 0.0 { (what / seconds).max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(uptime: f64, done: u64, busy: f64, counts: [u64; 3]) -> Value {
        json!({
            "uptime_seconds": uptime,
            "requests": { "hash": { "done": done, "overloaded": 2, "cancelled": 1 } },
            "workers": [{ "busy_seconds": busy }],
            "histograms": { "bounds_seconds": [0.001, 0.01], "operations": { "hash": { "queue": counts } } },
        })
    }

    #[test]
    fn rates_and_percentiles_are_of_what_came_between_two_looks() {
        let mut past = Past::default();
        past.add(look(10.0, 100, 3.0, [1000, 0, 0]));
        assert_eq!((past.utilisation(0), past.throughput()), (None, vec![]));
        past.add(look(12.0, 300, 4.0, [1000, 10, 0]));
        assert_eq!((past.utilisation(0), past.throughput()), (Some(0.5), vec![100.0]));
        let median = past.percentile("hash", "queue", 0.5).unwrap();
        assert!((median - 0.0055).abs() < 1e-9, "{median}");
        assert_eq!(past.percentile("echo", "queue", 0.5), None);
    }

    #[test]
    fn another_process_begins_anew() {
        let mut past = Past::default();
        past.add(look(10.0, 100, 3.0, [1, 0, 0]));
        past.add(look(1.0, 1, 0.0, [0, 0, 0]));
        assert_eq!(past.throughput(), Vec::<f64>::new());
    }
}
