//! Jobs that run far beyond their estimate, reported once each: an operator can do something about them, and nobody
//! else can.

use std::time::Duration;

use crate::cpu::thread_name;
use crate::telemetry::{Metrics, add};

/// How often is looked.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A job is reported once it has run for so many times its estimate,
const TIMES: u32 = 10;

/// and at least for so long: what is short harms nobody, however wrong its estimate.
const LEAST: Duration = Duration::from_secs(1);

/// Reports what has run for too long by `uptime` and has not been reported.
pub(crate) fn look(metrics: &Metrics, uptime: Duration) {
    for (index, worker) in metrics.crews.roster().workers() {
        let Some(running) = worker.running() else { continue };
        let time = uptime.saturating_sub(running.since);
        if time < LEAST.max(running.estimate.saturating_mul(TIMES)) || !worker.report(&running) {
            continue;
        }
        add(&metrics.overruns, 1);
        tracing::warn!(
            worker = thread_name(index),
            operation = metrics.operations.get(usize::from(running.operation.0)),
            client = %running.client,
            connection = running.client.connection(),
            for_ms = millis(time),
            estimated_ms = millis(running.estimate),
            "a job runs far beyond its estimate"
        );
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::time::Instant;

    use super::*;
    use crate::dispatch::ClientKey;
    use crate::operation::OperationIndex;
    use crate::telemetry::Started;

    const SECOND: Duration = Duration::from_secs(1);

    fn reports(estimate: Duration, looks_at: impl IntoIterator<Item = u32>) -> u64 {
        let metrics = Metrics::new(vec!["fold"], Instant::now());
        let crew = metrics.crews.recruit(1);
        metrics.crews.take_over(&crew);
        let client = ClientKey::Connection(1);
        crew.workers()[0].started(Started { operation: OperationIndex(0), since: SECOND, estimate, client });
        looks_at.into_iter().for_each(|seconds| look(&metrics, SECOND * seconds));
        metrics.overruns.load(Ordering::Relaxed)
    }

    #[test]
    fn a_job_far_beyond_its_estimate_is_reported_once() {
        assert_eq!(reports(SECOND, [2, 5, 10]), 0);
        assert_eq!(reports(SECOND, [10, 11, 12, 13]), 1);
        assert_eq!(reports(Duration::ZERO, [1]), 0, "not before it is long");
        assert_eq!(reports(Duration::ZERO, [2, 3]), 1);
    }
}
