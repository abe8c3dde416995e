//! The catalogue and the status as JSON. Made in the I/O world from what is at hand, so that they answer however
//! busy the workers are.

use serde_json::{Map, Value, json};

use super::histogram::HistogramSnapshot;
use super::snapshot::{JobsSnapshot, RequestsSnapshot, Snapshot, WorkerSnapshot};
use crate::io::IoWorld;
use crate::operation::Coalescing;

/// What can be asked: names, parameters, limits.
pub(crate) fn catalogue_json(world: &IoWorld) -> Vec<u8> {
    let settings = world.settings.load();
    let operations: Vec<Value> = settings
        .catalogue
        .entries()
        .iter()
        .map(|entry| {
            let mut described = entry.operation.declaration().describe();
            described["coalesce"] = json!(entry.coalescing == Coalescing::On);
            described["max_concurrency"] = json!(entry.concurrency_max);
            described
        })
        .collect();
    json!({ "operations": operations }).to_string().into_bytes()
}

/// What runs and waits, as a Query is answered.
pub(crate) fn status_json(world: &IoWorld) -> Vec<u8> {
    status(&Snapshot::take(world)).to_string().into_bytes()
}

/// What runs and waits. Members are only ever added.
pub(super) fn status(snapshot: &Snapshot) -> Value {
    let queue = &snapshot.queue;
    json!({
        "server": snapshot.server,
        "uptime_seconds": snapshot.uptime.as_secs_f64(),
        "state": snapshot.phase.name(),
        "state_seconds": snapshot.phase_for.as_secs_f64(),
        "state_left_seconds": snapshot.phase_left.map(|left| left.as_secs_f64()),
        "load": snapshot.load,
        "workers": snapshot.workers.iter().map(worker).collect::<Vec<_>>(),
        "workers_leaving": snapshot.leaving.iter().map(worker).collect::<Vec<_>>(),
        "operations": snapshot.jobs.iter().filter(|jobs| jobs.taken() > 0).map(operation).collect::<Map<_, _>>(),
        "requests": requests(&snapshot.requests),
        "in_flight": snapshot.in_flight(),
        "queue": {
            "waiting": queue.waiting,
            "admitted": queue.admitted,
            "capacity": queue.capacity,
            "held_bytes": queue.held_bytes,
            "held_bytes_max": queue.held_bytes_max,
            "cpu_seconds": { "interactive": queue.cpu[0].as_secs_f64(), "batch": queue.cpu[1].as_secs_f64() },
            "clients": { "interactive": queue.clients[0], "batch": queue.clients[1] },
            "drains_in_seconds": queue.drains_in.as_secs_f64(),
            "oldest_waiting_seconds": queue.oldest_waiting.as_secs_f64(),
            "oldest_running_seconds": queue.oldest_running.as_secs_f64(),
        },
        "cpu_memory": { "bytes": snapshot.work_bytes, "bytes_max": snapshot.work_bytes_max },
        "connections": connections(snapshot),
        "refusals": snapshot
            .refusals
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(code, count)| (code.name().to_owned(), json!(count)))
            .collect::<Map<_, _>>(),
        "panics": snapshot.panics(),
        "listener_restarts": snapshot.listener_restarts,
        "reloads": snapshot.reloads,
        "overruns": snapshot.overruns,
        "bytes": { "in": snapshot.bytes_in, "out": snapshot.bytes_out },
        "histograms": histograms(snapshot),
    })
}

/// What a worker does now, and how many jobs of each operation it took.
fn worker(worker: &WorkerSnapshot) -> Value {
    let running = worker.running.as_ref().map(|running| {
        json!({
            "operation": running.operation,
            "for_ms": u64::try_from(running.time.as_millis()).unwrap_or(u64::MAX),
            "client": running.client,
            "client_name": running.client_name,
        })
    });
    let jobs: Map<String, Value> =
        worker.jobs.iter().map(|(name, taken)| ((*name).to_owned(), json!(taken))).collect();
    json!({
        "index": worker.index,
        "name": worker.name,
        "running": running,
        "jobs": jobs,
        "busy_seconds": worker.busy.as_secs_f64(),
    })
}

/// How the jobs of an operation ended, over all workers.
fn operation(jobs: &JobsSnapshot) -> (String, Value) {
    let ended = json!({
        "done": jobs.done,
        "failed": jobs.failed,
        "panicked": jobs.panicked,
        "dropped": jobs.dropped,
        "stopped": jobs.stopped,
        "shared": jobs.shared,
        "queue_seconds": jobs.queue.sum.as_secs_f64(),
        "service_seconds": jobs.service.sum.as_secs_f64(),
        "estimate": {
            "measured": jobs.accuracy.measured,
            "formula_seconds": jobs.accuracy.formula.as_secs_f64(),
            "estimated_seconds": jobs.accuracy.estimated.as_secs_f64(),
            "observed_seconds": jobs.accuracy.took.as_secs_f64(),
            "median_ratio": jobs.accuracy.median_ratio,
        },
    });
    (jobs.operation.to_owned(), ended)
}

/// How the requests for each operation were answered; only what there was.
fn requests(requests: &[RequestsSnapshot]) -> Map<String, Value> {
    let of_one = |requests: &RequestsSnapshot| {
        let counted = requests.ended.iter().filter(|(_, count)| *count > 0);
        let ended: Map<String, Value> =
            counted.map(|(outcome, count)| ((*outcome).to_owned(), json!(count))).collect();
        (!ended.is_empty()).then(|| (requests.operation.to_owned(), Value::Object(ended)))
    };
    requests.iter().filter_map(of_one).collect()
}

fn connections(snapshot: &Snapshot) -> Value {
    let sum = |of: fn(&super::DoorSnapshot) -> u64| snapshot.doors.iter().map(of).sum::<u64>();
    let doors: Map<String, Value> = snapshot
        .doors
        .iter()
        .map(|door| {
            let counted = json!({ "open": door.open, "accepted": door.accepted, "refused": door.refused });
            (door.door.to_owned(), counted)
        })
        .collect();
    json!({
        "open": snapshot.connections(),
        "max": snapshot.connections_max,
        "accepted": sum(|door| door.accepted),
        "refused": sum(|door| door.refused),
        "accept_errors": snapshot.accept_errors,
        "protocol_errors": snapshot.protocol_errors,
        "doors": doors,
    })
}

/// Measurements by bucket, not cumulative; the last bucket is unbounded.
fn histograms(snapshot: &Snapshot) -> Value {
    let bounds: Vec<f64> = HistogramSnapshot::BOUNDS.iter().map(|bound| bound.as_secs_f64()).collect();
    let measured = snapshot.jobs.iter().filter(|jobs| jobs.taken() > 0);
    let operations: Map<String, Value> = measured
        .map(|jobs| {
            let counts = json!({ "queue": jobs.queue.counts, "service": jobs.service.counts });
            (jobs.operation.to_owned(), counts)
        })
        .collect();
    json!({ "bounds_seconds": bounds, "operations": operations })
}

impl JobsSnapshot {
    /// All that workers took, however it ended.
    fn taken(&self) -> u64 {
        self.done + self.failed + self.panicked + self.dropped + self.stopped
    }
}
