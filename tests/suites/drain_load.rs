//! SIGTERM under load: every request of 200 pipelining connections has exactly one answer, and no stream is cut.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use windlass_protocol::{
    Failure, FailureCode, GoAway, Header, Kind, KindNumber, PREFACE, PREFIX_BYTES, Prefix,
};
use windlass_tests::raw::{self, Frame, Raw};
use windlass_tests::{Daemon, PATIENCE, repetitions};

const CONNECTIONS: usize = 200;

/// Requests of a connection that are unanswered at the same time.
const PIPELINE: u64 = 6;

/// A drain under this load comes at the latest when this many answers were read.
const ANSWERS_MAX: usize = 4000;

/// How many requests an impolite client sends after it was told to send no more.
const LATE: u64 = 3;

/// How long the daemon waits for who was told to go, and who has sent something so lately is not idle.
const LINGER: Duration = Duration::from_millis(250);

/// From the last word of the last connection to the end of the process. The 250 ms that late data may take are within.
const END_WITHIN: Duration = Duration::from_secs(5);

/// A request, and what it has to be answered with.
struct Case {
    operation: &'static str,
    parameters: &'static [(&'static str, &'static str)],
    input: Vec<u8>,
    output: Vec<u8>,
}

/// How a client that was told to send no more behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manners {
    Polite,
    Impolite,
}

/// What a connection read: the outcome of each id, and the last id that was accepted.
struct Session {
    sent: u64,
    answered: BTreeMap<u64, Outcome>,
    last_id: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Right,
    Draining,
}

/// The results are those of the idle daemon; other suites compare them with other programs.
fn cases(daemon: &Daemon, rng: &mut Rng) -> Vec<Case> {
    type Parameters = &'static [(&'static str, &'static str)];
    let mix: [(&'static str, Parameters, usize); 10] = [
        ("echo", &[], 0),
        ("echo", &[], 3000),
        ("echo", &[("delay", "1ms")], 100),
        ("echo", &[("delay", "30ms")], 20),
        ("hash", &[("algorithm", "sha256")], 4000),
        ("hash", &[("algorithm", "blake3")], 100),
        ("compress", &[("level", "1")], 8000),
        ("compress", &[("algorithm", "gzip"), ("level", "6")], 2000),
        ("spin", &[("for", "1ms")], 0),
        // Over several reads, and larger than what a socket holds.
        ("echo", &[], 300_000),
    ];
    let mut connection = Raw::open(daemon.host_port());
    let kinds = mix.iter().cycle().take(3 * mix.len());
    kinds
        .zip(1..)
        .map(|((operation, parameters, size), id)| {
            let input: Vec<u8> = (0..*size).map(|_| rng.u8(b'a'..=b'f')).collect();
            connection.send(&raw::work(id, operation, parameters, &input));
            let reply = connection.frame().unwrap();
            assert_eq!((reply.kind, reply.id), (Kind::Reply, id));
            Case { operation, parameters, input, output: reply.body }
        })
        .collect()
}

/// The case of a request, known from its id alone.
fn case_of(cases: &[Case], connection: usize, id: u64) -> &Case {
    let place = connection * 7 + usize::try_from(id).unwrap() * 11;
    &cases[place % cases.len()]
}

fn request(cases: &[Case], connection: usize, id: u64) -> Vec<u8> {
    let case = case_of(cases, connection, id);
    raw::work(id, case.operation, case.parameters, &case.input)
}

/// The next frame, or `None` at an orderly end between two frames.
async fn frame(stream: &mut TcpStream) -> Option<Frame> {
    let mut prefix = [0; PREFIX_BYTES];
    if stream.read(&mut prefix[..1]).await.expect("a frame or the end") == 0 {
        return None;
    }
    stream.read_exact(&mut prefix[1..]).await.expect("a whole prefix");
    let prefix = Prefix::from_bytes(prefix);
    let KindNumber::Known(kind) = prefix.check().unwrap() else { panic!("{prefix:?}") };
    let mut header = vec![0; usize::from(prefix.header_len)];
    stream.read_exact(&mut header).await.expect("a whole header");
    let mut body = vec![0; prefix.body_len as usize];
    stream.read_exact(&mut body).await.expect("a whole body");
    Some(Frame { kind, id: prefix.id, header, body })
}

/// Keeps the pipeline full until it is told to go, then reads to the end.
async fn converse(
    mut stream: TcpStream,
    index: usize,
    cases: &[Case],
    manners: Manners,
    signalled_at: &Cell<Option<Instant>>,
    on_answer: impl Fn(),
) -> Session {
    let mut session = Session { sent: PIPELINE, answered: BTreeMap::new(), last_id: u64::MAX };
    let mut bytes = raw::greeting();
    (1..=PIPELINE).for_each(|id| bytes.extend(request(cases, index, id)));
    stream.write_all(&bytes).await.unwrap();
    let mut preface = [0; 8];
    stream.read_exact(&mut preface).await.expect("the daemon's preface");
    assert_eq!(preface, PREFACE);
    let (mut told, mut hung_up, mut sent_at) = (false, false, Instant::now());
    while let Some(frame) = frame(&mut stream).await {
        assert_eq!(session.last_id, u64::MAX, "{frame:?} after the last frame");
        let late = match frame.kind {
            Kind::Welcome => continue,
            Kind::GoAway => {
                let GoAway { last_id, reason, .. } = GoAway::decode(&frame.header).unwrap();
                assert_eq!(reason, FailureCode::DRAINING.number());
                session.last_id = last_id;
                let first = last_id == u64::MAX && !told;
                told = true;
                if first && manners == Manners::Impolite { LATE } else { 0 }
            }
            Kind::Failure if frame.id == 0 => {
                let failure = Failure::decode(&frame.header).unwrap();
                assert_eq!((failure.code(), failure.retry_safe), (FailureCode::DRAINING, true));
                told = true;
                0
            }
            _ => {
                let outcome = outcome(&frame, case_of(cases, index, frame.id));
                let doubled = session.answered.insert(frame.id, outcome);
                assert_eq!(doubled, None, "connection {index}: a second answer to {}", frame.id);
                on_answer();
                u64::from(!told)
            }
        };
        for _ in 0..late {
            // Who has been silent for so long when the drain begins may be cut off, and a first write would not say so.
            hung_up |= signalled_at.get().is_some() && sent_at.elapsed() >= LINGER;
            if hung_up {
                break;
            }
            session.sent += 1;
            match stream.write_all(&request(cases, index, session.sent)).await {
                Ok(()) => sent_at = Instant::now(),
                Err(error) => {
                    // Who comes to it late finds a closed connection, and what it was told before.
                    let is_late = signalled_at.get().is_some_and(|at| at.min(sent_at).elapsed() >= LINGER);
                    assert!(is_late, "connection {index}: {error}");
                    hung_up = true;
                }
            }
        }
    }
    session
}

#[track_caller]
fn outcome(frame: &Frame, case: &Case) -> Outcome {
    if frame.kind == Kind::Reply {
        assert!(frame.body == case.output, "a wrong result of {}", case.operation);
        return Outcome::Right;
    }
    let (code, message, retry_safe) = frame.failure().expect("a Reply or a Failure");
    assert_eq!((code, retry_safe), (FailureCode::DRAINING, true), "{message}");
    Outcome::Draining
}

/// W-33, W-55, W-61: exactly one answer or conclusion for each request, then the last GoAway, then the end.
fn assert_concluded(index: usize, session: &Session) {
    assert_ne!(session.last_id, u64::MAX, "connection {index} ended without the last GoAway");
    assert!(session.last_id <= session.sent, "connection {index}: an id that was not sent");
    let answered: Vec<u64> = session.answered.keys().copied().collect();
    let accepted: Vec<u64> = (1..=session.last_id).collect();
    assert_eq!(answered, accepted, "connection {index}: answers to all up to last_id, and to no more");
}

/// One daemon, one load, one SIGTERM. Gives how many requests were done, refused by an answer, and by the last id.
fn drain_under_load(seed: u64) -> [usize; 3] {
    let mut rng = Rng::with_seed(seed);
    let daemon = Daemon::start(&[("drain.timeout", "10m")]);
    let cases: Rc<[Case]> = cases(&daemon, &mut rng).into();
    let signal_at = rng.usize(..ANSWERS_MAX);
    let n_answers = Rc::new(Cell::new(0));
    let signalled_at = Rc::new(Cell::new(None));
    let terminate = || {
        signalled_at.set(Some(Instant::now()));
        daemon.signal(Signal::TERM);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sessions = tokio::task::LocalSet::new().block_on(&runtime, async {
        let mut streams = Vec::new();
        for _ in 0..CONNECTIONS {
            streams.push(TcpStream::connect(daemon.host_port()).await.unwrap());
        }
        if signal_at == 0 {
            terminate();
        }
        let mut sessions = Vec::new();
        let (told, mut telling) = tokio::sync::mpsc::channel::<()>(1);
        for (index, stream) in streams.into_iter().enumerate() {
            let (cases, n_answers, told) = (Rc::clone(&cases), Rc::clone(&n_answers), told.clone());
            let signalled_at = Rc::clone(&signalled_at);
            let manners = if rng.u8(..4) == 0 { Manners::Impolite } else { Manners::Polite };
            sessions.push(tokio::task::spawn_local(async move {
                let count = || {
                    n_answers.set(n_answers.get() + 1);
                    if n_answers.get() == signal_at {
                        told.try_send(()).expect("sent once");
                    }
                };
                converse(stream, index, &cases, manners, &signalled_at, count).await
            }));
        }
        drop(told);
        if telling.recv().await.is_some() {
            terminate();
        }
        let mut ended = Vec::new();
        for session in sessions {
            ended.push(tokio::time::timeout(PATIENCE, session).await.expect("an end of the stream").unwrap());
        }
        ended
    });
    let last_word_at = Instant::now();
    let ended = daemon.wait();
    assert!(last_word_at.elapsed() < END_WITHIN, "{:?} after the last answer", last_word_at.elapsed());
    assert_eq!(ended.status, Some(0), "{:#?}", ended.log);
    let mut counts = [0; 3];
    for (index, session) in sessions.iter().enumerate() {
        assert_concluded(index, session);
        let right = session.answered.values().filter(|outcome| **outcome == Outcome::Right).count();
        counts[0] += right;
        counts[1] += session.answered.len() - right;
        counts[2] += usize::try_from(session.sent - session.last_id).unwrap();
    }
    assert!(counts[0] + counts[1] >= signal_at, "{counts:?} of {signal_at}");
    counts
}

#[test]
fn sigterm_under_load_leaves_no_request_without_exactly_one_answer() {
    let seed = repetitions("WINDLASS_DRAIN_SEED", 1) as u64;
    let rounds = repetitions("WINDLASS_DRAIN_ROUNDS", 5) as u64;
    for seed in seed..seed + rounds {
        println!("WINDLASS_DRAIN_SEED={seed} WINDLASS_DRAIN_ROUNDS=1");
        let [done, refused, concluded] = drain_under_load(seed);
        println!("{done} done, {refused} answered Draining, {concluded} concluded by the last id");
        assert!(done > 0);
    }
}
