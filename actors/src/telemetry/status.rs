//! The catalogue and the status as JSON. Made in the I/O world from what is at hand, so that they answer however
//! busy the workers are.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::metrics::{Metrics, OperationCounters, nanos};
use crate::io::IoWorld;
use crate::lifecycle::Phase;

/// What can be asked: names, parameters, limits.
pub(crate) fn catalogue_json(world: &IoWorld) -> Vec<u8> {
    let settings = world.settings.load();
    let operations: Vec<Value> = settings
        .catalogue
        .entries()
        .iter()
        .map(|entry| {
            let mut described = entry.operation.declaration().describe();
            described["max_concurrency"] = json!(entry.concurrency_max);
            described
        })
        .collect();
    json!({ "operations": operations }).to_string().into_bytes()
}

/// What runs and waits.
pub(crate) fn status_json(world: &IoWorld) -> Vec<u8> {
    let settings = world.settings.load();
    let bridge = &world.workers.bridge;
    let metrics = &world.metrics;
    let uptime = Instant::now() - metrics.started_at;
    let phase: Phase = *world.phase.borrow();
    let refusals: Map<String, Value> = metrics
        .refusals()
        .filter(|(_, count)| *count > 0)
        .map(|(code, count)| (code.name().to_owned(), json!(count)))
        .collect();
    json!({
        "server": world.server,
        "uptime_seconds": uptime.as_secs_f64(),
        "state": phase.name(),
        "load": world.load(),
        "workers": workers(metrics, uptime),
        "operations": operations(metrics),
        "queue": {
            "waiting": bridge.waiting_jobs(),
            "admitted": bridge.admission.slots(),
            "capacity": settings.queue.capacity,
            "held_bytes": bridge.admission.held_bytes(),
            "held_bytes_max": settings.queue.memory_bytes_max,
        },
        "cpu_memory": { "bytes": bridge.budget.work_bytes(), "bytes_max": bridge.budget.work_bytes_max() },
        "connections": {
            "open": world.census.open(),
            "max": settings.limits.connections_max,
            "accepted": read(&metrics.connections_accepted),
            "refused": read(&metrics.connections_refused),
            "accept_errors": read(&metrics.accept_errors),
            "protocol_errors": read(&metrics.protocol_errors),
        },
        "refusals": refusals,
        "panics": panics(metrics),
        "listener_restarts": read(&metrics.listener_restarts),
        "reloads": read(&metrics.reloads),
        "bytes": { "in": read(&metrics.bytes_in), "out": read(&metrics.bytes_out) },
    })
    .to_string()
    .into_bytes()
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// What each worker does now, and how many jobs of each operation it took.
fn workers(metrics: &Metrics, uptime: Duration) -> Vec<Value> {
    metrics
        .workers
        .iter()
        .enumerate()
        .map(|(index, worker)| {
            let jobs: Map<String, Value> = metrics
                .operations
                .iter()
                .zip(worker.operations())
                .map(|(name, counters)| (*name, jobs(counters)))
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| (name.to_owned(), json!(count)))
                .collect();
            let running = worker.running().map(|running| {
                json!({
                    "operation": metrics.operations.get(usize::from(running.operation.0)),
                    "for_ms": nanos(uptime.saturating_sub(running.since)) / 1_000_000,
                    "client": running.client,
                })
            });
            json!({
                "index": index,
                "name": crate::cpu::thread_name(index),
                "running": running,
                "jobs": jobs,
                "busy_seconds": Duration::from_nanos(read(&worker.busy_nanos)).as_secs_f64(),
            })
        })
        .collect()
}

/// How the jobs of each operation ended, over all workers.
fn operations(metrics: &Metrics) -> Map<String, Value> {
    let per_worker = |index: usize| metrics.workers.iter().map(move |worker| &worker.operations()[index]);
    metrics
        .operations
        .iter()
        .enumerate()
        .filter(|(index, _)| per_worker(*index).any(|counters| jobs(counters) > 0))
        .map(|(index, name)| {
            let sum = |of: fn(&OperationCounters) -> &AtomicU64| -> u64 {
                per_worker(index).map(|c| read(of(c))).sum()
            };
            let seconds =
                |of: fn(&OperationCounters) -> &AtomicU64| Duration::from_nanos(sum(of)).as_secs_f64();
            let ended = json!({
                "done": sum(|c| &c.done),
                "failed": sum(|c| &c.failed),
                "panicked": sum(|c| &c.panicked),
                "dropped": sum(|c| &c.dropped),
                "stopped": sum(|c| &c.stopped),
                "queue_seconds": seconds(|c| &c.queue_nanos),
                "service_seconds": seconds(|c| &c.service_nanos),
            });
            ((*name).to_owned(), ended)
        })
        .collect()
}

/// All that a worker took of an operation, however it ended.
fn jobs(counters: &OperationCounters) -> u64 {
    [&counters.done, &counters.failed, &counters.panicked, &counters.dropped, &counters.stopped]
        .into_iter()
        .map(read)
        .sum()
}

fn panics(metrics: &Metrics) -> u64 {
    metrics
        .workers
        .iter()
        .flat_map(|worker| worker.operations())
        .map(|counters| read(&counters.panicked))
        .sum()
}
