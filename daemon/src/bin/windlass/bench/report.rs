//! What was measured, for people and for programs.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Plan;
use super::tally::Tally;
use crate::exit::Problem;
use crate::output;
use crate::units::readable;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

pub(super) fn print(plan: &Plan, tally: &Tally, as_json: bool) -> Result<(), Problem> {
    match as_json {
        true => output::print(format_args!("{}\n", machine(plan, tally))),
        false => output::print(format_args!("{}", human(plan, tally))),
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates are rounded for people anyway")]
fn per_second(count: u64, tally: &Tally) -> f64 {
    count as f64 / tally.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

fn human(plan: &Plan, tally: &Tally) -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let mut line = |name: &str, text: String| {
        let _written = writeln!(page, "{name:11} {text}");
    };
    let shape = match (plan.rate, plan.pipeline) {
        (Some(rate), _) => format!("open loop, {rate} requests/s over {} connections", plan.connections),
        (None, pipeline) => {
            format!("closed loop, {} connections × {} in flight", plan.connections, pipeline.unwrap_or(1))
        }
    };
    let size = plan.request.body.len();
    line("load", format!("{} · {size} B · {shape} · {:?}", plan.request.operation, plan.duration));
    line("throughput", format!("{:.0} replies/s", per_second(tally.replies_in_time, tally)));
    line("replies", tally.replies.to_string());
    line("latency", times(&tally.latency));
    line("  queue", times(&tally.queue));
    line("  service", times(&tally.service));
    for (code, count) in &tally.failures {
        line("failures", format!("{count} {code} ({})", code.number()));
    }
    if !tally.refusal.is_empty() {
        line("  latency", times(&tally.refusal));
    }
    for (name, count) in [("unanswered", tally.unanswered), ("unsent", tally.unsent)] {
        if count > 0 {
            line(name, count.to_string());
        }
    }
    if let Some(reason) = &tally.broken_reason {
        line("broken", format!("{} connections; first: {reason}", tally.broken));
    }
    page
}

fn times(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return "-".to_owned();
    }
    let show = |nanos| readable(Duration::from_nanos(nanos));
    let quantiles =
        QUANTILES.map(|(name, quantile)| format!("{name} {}", show(histogram.value_at_quantile(quantile))));
    format!("{} · max {}", quantiles.join(" · "), show(histogram.max()))
}

fn machine(plan: &Plan, tally: &Tally) -> Value {
    let failures: serde_json::Map<String, Value> =
        tally.failures.iter().map(|(code, count)| (code.name().to_owned(), json!(count))).collect();
    json!({
        "operation": plan.request.operation,
        "input_bytes": plan.request.body.len(),
        "loop": if plan.rate.is_some() { "open" } else { "closed" },
        "rate": plan.rate,
        "connections": plan.connections,
        "pipeline": plan.pipeline,
        "threads": plan.threads,
        "duration_seconds": plan.duration.as_secs_f64(),
        "replies": tally.replies,
        "replies_per_second": per_second(tally.replies_in_time, tally),
        "bytes_out": tally.bytes_out,
        "latency_us": microseconds(&tally.latency),
        "queue_us": microseconds(&tally.queue),
        "service_us": microseconds(&tally.service),
        "failures": failures,
        "failure_latency_us": microseconds(&tally.refusal),
        "unanswered": tally.unanswered,
        "unsent": tally.unsent,
        "broken_connections": tally.broken,
        "broken_reason": tally.broken_reason,
    })
}

/// `null` where nothing was measured.
fn microseconds(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    #[allow(clippy::cast_precision_loss, reason = "times below an hour keep their nanoseconds")]
    let micros = |nanos: u64| nanos as f64 / 1e3;
    let mut all: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), json!(micros(histogram.value_at_quantile(*quantile)))))
        .collect();
    all.insert("max".to_owned(), json!(micros(histogram.max())));
    all.insert("mean".to_owned(), json!(histogram.mean() / 1e3));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_recorded_times() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 1_000_000_000, 3).unwrap();
        (1..=1000).for_each(|micros| histogram.record(micros * 1000).unwrap());
        let found = microseconds(&histogram);
        let near = |name: &str, expected: f64| (found[name].as_f64().unwrap() - expected).abs() < 1.0;
        assert!(near("p50", 500.0) && near("p99", 990.0) && near("max", 1000.0), "{found}");
        assert_eq!(microseconds(&Histogram::<u64>::new(3).unwrap()), Value::Null);
    }
}
