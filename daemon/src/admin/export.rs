//! The metrics as Prometheus reads them (text format 0.0.4), made from one snapshot.
//!
//! Labels are names of operations, outcomes, codes, doors, phases and workers, all known at the start: a stranger
//! adds none.

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use windlass_actors::{HistogramSnapshot, JobsSnapshot, Observer, Phase, Snapshot};

use super::Window;
use super::process::Process;

/// Families in the order in which they are written.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

/// All metrics as text. What belongs to the daemon is missing while it starts.
pub(super) fn text(window: &Window) -> String {
    let observer = window.observer.get();
    let mut families = Families::default();
    families.gauge(
        "windlass_build_info",
        "Version of the daemon and of its protocol; always 1.",
        [(vec![("version", env!("CARGO_PKG_VERSION")), ("protocol", "1")], 1.0)],
    );
    let ready = observer.is_some_and(Observer::is_ready);
    families.one(
        "windlass_ready",
        "Whether new work is welcome: 1 or 0, the same that /readyz says.",
        flag(ready),
    );
    process(&mut families, window);
    if let Some(observer) = observer {
        let snapshot = observer.snapshot();
        life(&mut families, &snapshot);
        requests(&mut families, &snapshot);
        queue(&mut families, &snapshot);
        workers(&mut families, &snapshot);
        doors(&mut families, &snapshot, window);
    }
    families.encode()
}

fn process(families: &mut Families, window: &Window) {
    let process = Process::now();
    let gauges = [
        ("windlass_descriptors_open", "Descriptors that are open.", process.descriptors),
        ("windlass_descriptors_limit", "Descriptors that may be open.", process.descriptors_max),
        ("windlass_threads", "Threads of the process.", process.threads),
        ("windlass_resident_memory_bytes", "Resident memory of the process.", process.resident_bytes),
    ];
    for (name, help, value) in gauges {
        if let Some(value) = value {
            families.one(name, help, value as f64);
        }
    }
    if let Some(cpu) = process.cpu {
        families.count("windlass_cpu_seconds_total", "CPU time of all threads.", cpu.as_secs_f64());
    }
    let dropped = window.log.dropped_lines() as f64;
    families.count("windlass_log_lines_dropped_total", "Log lines that nobody read fast enough.", dropped);
}

fn life(families: &mut Families, snapshot: &Snapshot) {
    families.one("windlass_uptime_seconds", "Since the start.", snapshot.uptime.as_secs_f64());
    let phases = Phase::ALL.map(|phase| (vec![("phase", phase.name())], flag(phase == snapshot.phase)));
    families.gauge(
        "windlass_phase",
        "Where the daemon is between start and end: 1 for the present phase.",
        phases,
    );
    families.one(
        "windlass_phase_seconds",
        "Since the present phase was entered.",
        snapshot.phase_for.as_secs_f64(),
    );
    let load = f64::from(snapshot.load) / 100.0;
    families.one(
        "windlass_load_ratio",
        "0 is idle, 0.5 all workers busy and nothing waiting, 1 a wait of queue.max_wait or a full queue.",
        load,
    );
    families.count(
        "windlass_listener_restarts_total",
        "Listeners that ended by themselves.",
        snapshot.listener_restarts as f64,
    );
    families.count(
        "windlass_overruns_total",
        "Jobs that ran far beyond their estimate; each is in the log.",
        snapshot.overruns as f64,
    );
    families.count("windlass_reloads_total", "Reloads that were taken.", snapshot.reloads as f64);
}

fn requests(families: &mut Families, snapshot: &Snapshot) {
    let ended = snapshot.requests.iter().flat_map(|requests| {
        requests.ended.iter().map(|(outcome, count)| {
            (vec![("operation", requests.operation), ("outcome", *outcome)], *count as f64)
        })
    });
    families.counter(
        "windlass_requests_total",
        "Requests by how they ended: done, the code of their failure, or unanswered because the connection broke.",
        ended,
    );
    families.one(
        "windlass_requests_in_flight",
        "Requests read and not answered yet.",
        snapshot.in_flight() as f64,
    );
    let refusals = snapshot
        .refusals
        .iter()
        .map(|(code, count)| (vec![("reason", Snapshot::label(*code))], *count as f64));
    families.counter(
        "windlass_refusals_total",
        "Requests answered with a failure before their operation was started, by code.",
        refusals,
    );
    families.histogram(
        "windlass_queue_wait_seconds",
        "From a complete request to a worker, of every job that a worker took.",
        snapshot.jobs.iter().map(|jobs| (jobs.operation, &jobs.queue)),
    );
    families.histogram(
        "windlass_service_time_seconds",
        "On a worker, of every job that was started.",
        snapshot.jobs.iter().map(|jobs| (jobs.operation, &jobs.service)),
    );
    estimates(families, snapshot);
    let panics = snapshot.jobs.iter().map(|jobs| (vec![("operation", jobs.operation)], jobs.panicked as f64));
    families.counter("windlass_panics_total", "Panics of operations, caught and answered.", panics);
    let shared = snapshot.jobs.iter().map(|jobs| (vec![("operation", jobs.operation)], jobs.shared as f64));
    families.counter(
        "windlass_coalesced_total",
        "Jobs answered with what another job came to that was the same.",
        shared,
    );
    families.count("windlass_received_bytes_total", "Bodies of requests.", snapshot.bytes_in as f64);
    families.count("windlass_sent_bytes_total", "Bodies of answers.", snapshot.bytes_out as f64);
}

fn estimates(families: &mut Families, snapshot: &Snapshot) {
    let of = |value: fn(&JobsSnapshot) -> Option<f64>| {
        let values = snapshot.jobs.iter().filter_map(move |jobs| Some((jobs.operation, value(jobs)?)));
        values.map(|(operation, value)| (vec![("operation", operation)], value)).collect::<Vec<_>>()
    };
    families.counter(
        "windlass_estimated_cpu_seconds_total",
        "What jobs were estimated at when they were admitted, of those whose time was compared with it.",
        of(|jobs| Some(jobs.accuracy.estimated.as_secs_f64())),
    );
    families.counter(
        "windlass_observed_cpu_seconds_total",
        "What the same jobs took.",
        of(|jobs| Some(jobs.accuracy.took.as_secs_f64())),
    );
    families.gauge(
        "windlass_estimate_error_ratio",
        "Median of observed over estimated time of the last jobs; 1 is right, above it too low an estimate.",
        of(|jobs| jobs.accuracy.median_ratio),
    );
}

fn queue(families: &mut Families, snapshot: &Snapshot) {
    let queue = &snapshot.queue;
    let classes = |values: [f64; 2]| {
        ["interactive", "batch"].into_iter().zip(values).map(|(class, value)| (vec![("class", class)], value))
    };
    families.gauge(
        "windlass_queue_cpu_seconds",
        "Estimated CPU time of what waits.",
        classes(queue.cpu.map(|cpu| cpu.as_secs_f64())),
    );
    families.gauge(
        "windlass_queue_clients",
        "Clients with work that waits.",
        classes(queue.clients.map(|clients| clients as f64)),
    );
    families.one(
        "windlass_queue_drain_seconds",
        "How long the workers need for all that waits and runs, as estimated.",
        queue.drains_in.as_secs_f64(),
    );
    let gauges = [
        ("windlass_queue_waiting_requests", "Requests that no worker has taken yet.", queue.waiting as f64),
        ("windlass_queue_limit_requests", "Requests that may wait: queue.capacity.", queue.capacity as f64),
        ("windlass_admitted_requests", "Requests that wait or run.", queue.admitted as f64),
        ("windlass_held_bytes", "Inputs and outputs held.", queue.held_bytes as f64),
        (
            "windlass_held_limit_bytes",
            "Inputs and outputs that may be held: queue.memory.",
            queue.held_bytes_max as f64,
        ),
        (
            "windlass_work_bytes",
            "Working memory that running jobs have reserved.",
            snapshot.work_bytes as f64,
        ),
        (
            "windlass_work_limit_bytes",
            "Working memory that they may reserve: cpu.memory less what workers keep.",
            snapshot.work_bytes_max as f64,
        ),
        (
            "windlass_oldest_waiting_seconds",
            "How long the oldest request has waited that no worker has taken yet.",
            queue.oldest_waiting.as_secs_f64(),
        ),
        (
            "windlass_oldest_running_seconds",
            "How long the oldest job has run that has not ended.",
            queue.oldest_running.as_secs_f64(),
        ),
    ];
    for (name, help, value) in gauges {
        families.one(name, help, value);
    }
}

fn workers(families: &mut Families, snapshot: &Snapshot) {
    families.one("windlass_workers", "CPU threads.", snapshot.workers.len() as f64);
    let named = || snapshot.workers.iter().map(|worker| (vec![("worker", worker.name.as_str())], worker));
    families.counter(
        "windlass_worker_busy_seconds_total",
        "Time spent on jobs, the running one included.",
        named().map(|(label, worker)| (label, worker.busy.as_secs_f64())),
    );
    families.gauge(
        "windlass_worker_running",
        "Whether the worker runs a job now.",
        named().map(|(label, worker)| (label, flag(worker.running.is_some()))),
    );
}

fn doors(families: &mut Families, snapshot: &Snapshot, window: &Window) {
    let doors = || snapshot.doors.iter().map(|door| (vec![("door", door.door)], door));
    families.gauge(
        "windlass_connections",
        "Connections that are open.",
        doors().map(|(label, door)| (label, door.open as f64)),
    );
    families.one(
        "windlass_connections_limit",
        "Connections that may be open at all doors but admin: limits.connections.",
        snapshot.connections_max as f64,
    );
    let admin = window.accepted.load(std::sync::atomic::Ordering::Relaxed) as f64;
    families.counter(
        "windlass_connections_accepted_total",
        "Connections that were given a place.",
        doors().map(|(label, door)| (label, door.accepted as f64)).chain([(vec![("door", "admin")], admin)]),
    );
    families.counter(
        "windlass_connections_refused_total",
        "Connections for which there was no place.",
        doors().map(|(label, door)| (label, door.refused as f64)),
    );
    families.count(
        "windlass_accept_errors_total",
        "Connections that the system did not give.",
        snapshot.accept_errors as f64,
    );
    families.count(
        "windlass_protocol_errors_total",
        "Connections that ended because the peer broke the protocol.",
        snapshot.protocol_errors as f64,
    );
}

fn flag(yes: bool) -> f64 {
    if yes { 1.0 } else { 0.0 }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Families {
    fn one(&mut self, name: &str, help: &str, value: f64) {
        self.gauge(name, help, [(Vec::new(), value)]);
    }

    fn count(&mut self, name: &str, help: &str, value: f64) {
        self.counter(name, help, [(Vec::new(), value)]);
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let metrics = values.into_iter().map(|(labels, value)| {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            let mut metric = labelled(&labels);
            metric.set_gauge(gauge);
            metric
        });
        self.add(name, help, MetricType::GAUGE, metrics.collect());
    }

    fn counter<'a>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (Labels<'a>, f64)>) {
        let metrics = values.into_iter().map(|(labels, value)| {
            let mut counter = Counter::default();
            counter.set_value(value);
            let mut metric = labelled(&labels);
            metric.set_counter(counter);
            metric
        });
        self.add(name, help, MetricType::COUNTER, metrics.collect());
    }

    fn histogram<'a>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (&'static str, &'a HistogramSnapshot)>,
    ) {
        let metrics = values.map(|(operation, snapshot)| {
            let mut metric = labelled(&vec![("operation", operation)]);
            metric.set_histogram(histogram(snapshot));
            metric
        });
        self.add(name, help, MetricType::HISTOGRAM, metrics.collect());
    }

    fn add(&mut self, name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) {
        // The encoder takes no family without a metric.
        if metrics.is_empty() {
            return;
        }
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics);
        self.0.push(family);
    }

    fn encode(&self) -> String {
        TextEncoder::new().encode_to_string(&self.0).expect("families have names and metrics")
    }
}

fn labelled(labels: &Labels<'_>) -> Metric {
    let pair = |(name, value): &(&'static str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

/// The encoder adds the bucket `+Inf` itself, from the count.
fn histogram(snapshot: &HistogramSnapshot) -> Histogram {
    let mut cumulative = 0;
    let buckets = HistogramSnapshot::BOUNDS.iter().zip(snapshot.counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound.as_secs_f64());
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(snapshot.count());
    histogram.set_sample_sum(snapshot.sum.as_secs_f64());
    histogram
}
