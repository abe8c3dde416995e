//! A reload that changes `cpu.*`: other threads take over while the daemon serves, and nothing is lost between them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;
use windlass_protocol::{FailureCode, Kind};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Program, Ready, admin, eventually, workers};

/// A daemon whose file a test rewrites.
fn daemon(text: &str) -> Daemon {
    Daemon::launch(Program::Windlassd, &[], Ready::Awaited, |command| {
        std::fs::write(command.get_current_dir().unwrap().join("windlass.toml"), text).unwrap();
        command.args(["--config", "windlass.toml"]);
    })
}

/// Reloads this file and waits until the daemon has said what became of it, `said` times in all.
#[track_caller]
fn reload(daemon: &Daemon, text: &str, becomes: &str, said: usize) {
    std::fs::write(daemon.directory().join("windlass.toml"), text).unwrap();
    daemon.signal(Signal::HUP);
    eventually(becomes, || {
        let is_it = |event: &&Value| event["message"].as_str().is_some_and(|text| text.contains(becomes));
        (daemon.log().iter().filter(is_it).count() == said).then_some(())
    });
}

const TAKEN: &str = "new settings are in force";
const REFUSED: &str = "reload refused";
const GONE: &str = "the CPU threads that were replaced have ended";

/// Names and niceness of the CPU threads, sorted.
fn cpu_threads(daemon: &Daemon) -> Vec<(String, i32)> {
    daemon.threads().into_iter().filter(|(name, _)| name.starts_with("windlass-cpu-")).collect()
}

#[track_caller]
fn wait_for_cpu_threads(daemon: &Daemon, nice: i32, indices: &[usize]) {
    let wanted: Vec<_> = indices.iter().map(|index| (format!("windlass-cpu-{index}"), nice)).collect();
    eventually(&format!("the CPU threads are {wanted:?}"), || (cpu_threads(daemon) == wanted).then_some(()));
}

/// A spin that ends when it is cancelled.
fn spin(connection: &mut Raw, id: u64) {
    connection.send(&raw::work_within(id, "spin", &[("for", "60s")], Some(600_000), b""));
}

#[track_caller]
fn cancel(connection: &mut Raw, id: u64) {
    connection.send(&raw::cancel(id));
    let answer = connection.frame().unwrap();
    assert_eq!((answer.id, answer.failure().unwrap().0), (id, FailureCode::CANCELLED));
}

/// How many workers of the pool in force and of older ones run a spin, and how many requests wait.
fn spinning(status: &Value) -> (usize, usize, u64) {
    let of = |rows: &[Value]| rows.iter().filter(|row| row["running"]["operation"] == "spin").count();
    let leaving = status["workers_leaving"].as_array().unwrap();
    (of(workers(status)), of(leaving), status["queue"]["waiting"].as_u64().unwrap())
}

#[test]
fn more_cpu_threads_take_over_at_once_while_the_old_one_finishes() {
    let before = "[cpu]\nthreads = 1\nnice = 3\n[queue]\ncapacity = 1\nmax_wait = \"10m\"\n";
    let daemon = daemon(before);
    wait_for_cpu_threads(&daemon, 3, &[0]);
    let mut connection = Raw::open(daemon.host_port());
    spin(&mut connection, 1);
    daemon.wait_until_running("spin", 1);
    spin(&mut connection, 2);
    daemon.wait_for_status("the second one waits", |status| spinning(status) == (1, 0, 1));

    reload(&daemon, "[cpu]\nthreads = 2\nnice = 7\n[queue]\ncapacity = 1\nmax_wait = \"10m\"\n", TAKEN, 1);
    let status = daemon.wait_for_status("it runs on a new thread", |status| spinning(status) == (1, 1, 0));
    assert_eq!(workers(&status).len(), 2);
    eventually("the old thread is there beside the two new ones", || {
        let nice = |index, nice| (format!("windlass-cpu-{index}"), nice);
        (cpu_threads(&daemon) == [nice(0, 3), nice(0, 7), nice(1, 7)]).then_some(())
    });
    assert_eq!(admin::metrics(daemon.admin_address()).value("windlass_workers"), 2.0);
    daemon.signal(Signal::USR1);
    assert_eq!(daemon.wait_for_log("worker is busy")["leaving"], true, "the old one is told first");

    // Two run, so a third waits, and a fourth is one too many.
    spin(&mut connection, 3);
    daemon.wait_for_status("the third one waits", |status| spinning(status) == (1, 1, 1));
    spin(&mut connection, 4);
    let (code, message, _) = connection.frame().unwrap().failure().unwrap();
    assert_eq!(code, FailureCode::OVERLOADED);
    assert!(message.starts_with("3 requests wait or run already"), "{message}");

    cancel(&mut connection, 1);
    daemon.wait_for_status("its place is the third one's", |status| spinning(status) == (2, 0, 0));
    wait_for_cpu_threads(&daemon, 7, &[0, 1]);
    daemon.wait_for_log(GONE);
    assert_eq!(daemon.status()["operations"]["spin"]["stopped"], 1, "what the old one counted stays");
    cancel(&mut connection, 2);
    cancel(&mut connection, 3);
    assert_eq!(daemon.drain().status, Some(0));
}

#[test]
fn fewer_cpu_threads_take_nothing_more_before_the_old_ones_have_made_room() {
    let patient = "[queue]\nmax_wait = \"10m\"\n";
    let daemon = daemon(&format!("[cpu]\nthreads = 2\n{patient}"));
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=2 {
        spin(&mut connection, id);
    }
    daemon.wait_until_running("spin", 2);
    reload(&daemon, &format!("[cpu]\nthreads = 1\n{patient}"), TAKEN, 1);
    let status = daemon.wait_for_status("both are finished by the old ones", |s| spinning(s) == (0, 2, 0));
    assert_eq!(workers(&status).len(), 1);
    spin(&mut connection, 3);
    daemon.wait_for_status("the third one waits", |status| spinning(status) == (0, 2, 1));
    cancel(&mut connection, 1);
    // Only one may run.
    spin(&mut connection, 4);
    daemon.wait_for_status("one is left, two wait", |status| spinning(status) == (0, 1, 2));
    cancel(&mut connection, 2);
    daemon.wait_for_status("the new one runs the third", |status| spinning(status) == (1, 0, 1));
    cancel(&mut connection, 3);
    daemon.wait_for_status("the new one runs the fourth", |status| spinning(status) == (1, 0, 0));
    cancel(&mut connection, 4);
    wait_for_cpu_threads(&daemon, 19, &[0]);
}

#[test]
fn reloads_under_load_lose_nothing_and_run_nothing_twice() {
    const CLIENTS: usize = 4;
    const OPEN: u64 = 16;
    let daemon = daemon("[cpu]\nthreads = 1\n");
    let (ending, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asked: u64 = std::thread::scope(|scope| {
        let client = || {
            let mut connection = Raw::open(daemon.host_port());
            let (mut id, mut open) = (0, BTreeMap::new());
            loop {
                while !ending.load(Ordering::Relaxed) && (open.len() as u64) < OPEN {
                    id += 1;
                    let body = format!("{id} of {:?}", std::thread::current().id());
                    connection.send(&raw::work(id, "echo", &[], body.as_bytes()));
                    open.insert(id, body);
                }
                if open.is_empty() {
                    return id;
                }
                let answer = connection.frame().expect("an answer");
                assert_eq!(answer.kind, Kind::Reply, "{:?}", answer.failure());
                let body = open.remove(&answer.id).expect("one answer to each request");
                assert_eq!(answer.body, body.as_bytes());
                answered.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        for round in 1..=10 {
            let until = answered.load(Ordering::Relaxed) + 100;
            eventually("the load goes on", || (answered.load(Ordering::Relaxed) >= until).then_some(()));
            let (threads, nice) = (1 + round % 2, 10 + round % 3);
            reload(&daemon, &format!("[cpu]\nthreads = {threads}\nnice = {nice}\n"), TAKEN, round);
            // Each is gone before the next one comes: older ones are limited in number.
            eventually("the threads before have ended", || {
                let gone = daemon.log().iter().filter(|event| event["message"] == GONE).count();
                (gone == round).then_some(())
            });
        }
        ending.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    let status = daemon.status();
    assert_eq!(status["operations"]["echo"]["done"], asked, "each ran once, and no pool's count is lost");
    assert_eq!(status["requests"]["echo"]["done"], asked);
    wait_for_cpu_threads(&daemon, 11, &[0]);
}

#[test]
fn a_pool_that_cannot_be_built_leaves_everything_as_it_was() {
    let daemon = daemon("[cpu]\nthreads = 1\n");
    wait_for_cpu_threads(&daemon, 19, &[0]);
    let mut connection = Raw::open(daemon.host_port());
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    let before = getrlimit(Resource::As);
    let now = daemon.process_status("VmSize").unwrap();
    let now: u64 = now.split_once(' ').unwrap().0.parse::<u64>().unwrap() << 10;
    prlimit(Some(pid), Resource::As, Rlimit { current: Some(now + (1 << 30)), maximum: before.maximum })
        .unwrap();
    let greedy = "[cpu]\nthreads = 4\nthread_stack = \"1GiB\"\n[limits]\nbody = \"1KiB\"\n";
    reload(&daemon, greedy, REFUSED, 1);
    let error = daemon.wait_for_log(REFUSED)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("4 CPU threads with a stack of 1073741824 bytes"), "{error}");
    wait_for_cpu_threads(&daemon, 19, &[0]);
    connection.send(&raw::work(1, "echo", &[], &[7; 2048]));
    assert_eq!(connection.frame().unwrap().body, [7; 2048], "nothing else of that file is taken either");
    assert_eq!(workers(&daemon.status()).len(), 1);

    reload(&daemon, "[cpu]\nthreads = many\n", REFUSED, 2);
    wait_for_cpu_threads(&daemon, 19, &[0]);

    prlimit(Some(pid), Resource::As, before).unwrap();
    reload(&daemon, "[cpu]\nthreads = 3\n", TAKEN, 1);
    wait_for_cpu_threads(&daemon, 19, &[0, 1, 2]);
}

#[test]
fn only_so_many_pools_may_still_be_finishing() {
    let daemon = daemon("[cpu]\nthreads = 1\n");
    let mut connection = Raw::open(daemon.host_port());
    for older in 1..=4 {
        spin(&mut connection, older as u64);
        daemon.wait_for_status("they run side by side", |status| {
            let (now, leaving, waiting) = spinning(status);
            (now, leaving, waiting) == (1, older - 1, 0)
        });
        reload(&daemon, &format!("[cpu]\nthreads = {}\n", older + 1), TAKEN, older);
    }
    reload(&daemon, "[cpu]\nthreads = 1\n", REFUSED, 1);
    let error = daemon.wait_for_log(REFUSED)["error"].as_str().unwrap().to_owned();
    assert!(error.contains("while 4 older ones finish their last jobs"), "{error}");
    cancel(&mut connection, 1);
    daemon.wait_for_log(GONE);
    reload(&daemon, "[cpu]\nthreads = 1\n", TAKEN, 5);
    for id in 2..=4 {
        cancel(&mut connection, id);
    }
    wait_for_cpu_threads(&daemon, 19, &[0]);
}

#[test]
fn less_memory_binds_new_requests_and_what_was_accepted_still_runs() {
    let hash = |id| raw::work(id, "password-hash", &[("memory", "128MiB"), ("iterations", "1")], b"a secret");
    let daemon = daemon("[cpu]\nthreads = 1\nmemory = \"256MiB\"\n");
    let mut connection = Raw::open(daemon.host_port());
    spin(&mut connection, 1);
    daemon.wait_until_running("spin", 1);
    connection.send(&hash(2));
    daemon.wait_for_status("the hash waits", |status| spinning(status) == (1, 0, 1));
    reload(&daemon, "[cpu]\nthreads = 1\nmemory = \"64MiB\"\n", TAKEN, 1);
    connection.send(&hash(3));
    let refused = connection.frame().unwrap();
    assert_eq!((refused.id, refused.failure().unwrap().0), (3, FailureCode::TOO_LARGE));
    assert_eq!(daemon.status()["cpu_memory"]["bytes_max"], 48 << 20, "a quarter of it is for work areas");
    cancel(&mut connection, 1);
    let answer = connection.frame().unwrap();
    assert_eq!((answer.id, answer.kind), (2, Kind::Reply), "{:?}", answer.failure());
    assert!(answer.body.starts_with(b"$argon2id$"));
    reload(&daemon, "[cpu]\nthreads = 1\nmemory = \"256MiB\"\n", TAKEN, 2);
    connection.send(&hash(4));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
}

#[test]
fn who_rests_in_an_old_pool_keeps_no_memory_while_another_one_finishes() {
    let resident = |daemon: &Daemon| -> u64 {
        let text = daemon.process_status("VmRSS").unwrap();
        text.split_once(' ').unwrap().0.parse::<u64>().unwrap() << 10
    };
    // Of 1 GiB, each of two workers may keep 128 MiB; a single area above 64 MiB never is.
    let daemon = daemon("[cpu]\nthreads = 2\nmemory = \"1GiB\"\n");
    let mut connection = Raw::open(daemon.host_port());
    spin(&mut connection, 1);
    daemon.wait_until_running("spin", 1);
    let costs = [("memory", "60MiB"), ("iterations", "1")];
    connection.send(&raw::work(2, "password-hash", &costs, b"a secret"));
    assert_eq!(connection.frame().unwrap().kind, Kind::Reply);
    let before = resident(&daemon);
    assert!(before > 60 << 20, "the other worker keeps its work area: {before} bytes");
    reload(&daemon, "[cpu]\nthreads = 2\nmemory = \"512MiB\"\n", TAKEN, 1);
    eventually("it has given it back", || (resident(&daemon) < before - (50 << 20)).then_some(()));
    daemon.wait_for_status("the old pool is still there", |status| spinning(status) == (0, 1, 0));
}

/// `available_parallelism` counts the cores of the thread that asks, which at a reload is the signal thread.
#[test]
fn auto_is_looked_up_again_at_a_reload() {
    let daemon = daemon("[cpu]\nthreads = \"auto\"\n");
    let cores = std::thread::available_parallelism().unwrap().get();
    wait_for_cpu_threads(&daemon, 19, &(0..cores).collect::<Vec<_>>());
    // A thread names itself once it runs.
    let signal_thread = eventually("the signal thread has its name", || {
        daemon.thread_ids("windlass-signal").first().copied()
    });
    let all = sched_getaffinity(Some(signal_thread)).unwrap();
    let first = (0..CpuSet::MAX_CPU).find(|core| all.is_set(*core)).unwrap();
    let mut one = CpuSet::new();
    one.set(first);
    sched_setaffinity(Some(signal_thread), &one).unwrap();
    reload(&daemon, "[cpu]\nthreads = \"auto\"\n", TAKEN, 1);
    wait_for_cpu_threads(&daemon, 19, &[0]);
}
