//! The Unix socket: its rights from the first moment, whose place it may take, and what is left of it.

use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rustix::process::{Signal, geteuid};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use windlass_tests::raw;
use windlass_tests::{Daemon, Ended, PATIENCE, Program, Ready, eventually, repetitions};

/// A directory, and the place of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("windlass.sock");
    (directory, path)
}

fn start(path: &Path, settings: &[(&str, &str)]) -> Daemon {
    let own = [("listen.unix", path.to_str().unwrap())];
    Daemon::start(&[&own, settings].concat())
}

/// What comes of a daemon that is not expected to start.
fn attempt(path: &Path) -> Ended {
    let settings = [("listen.unix", path.to_str().unwrap())];
    Daemon::launch(Program::Windlassd, &settings, Ready::Ignored, |_| {}).wait()
}

fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

#[track_caller]
fn assert_serves(path: &Path) {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = raw::work(1, "hash", &[("algorithm", "crc32c")], b"123456789");
    stream.write_all(&[raw::greeting(), request, raw::close()].concat()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.windows(8).any(|part| part == b"e3069283"), "{answer:?}");
}

fn entries(directory: &TempDir) -> Vec<PathBuf> {
    std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Looks at a path without a pause, and keeps every state of it that it sees.
struct Watch {
    stop: Arc<AtomicBool>,
    sightings: Arc<AtomicUsize>,
    watcher: thread::JoinHandle<Vec<(u32, u32, u32)>>,
}

impl Watch {
    fn begin(path: PathBuf) -> Self {
        let (stop, sightings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (ended, count) = (Arc::clone(&stop), Arc::clone(&sightings));
        let watcher = thread::spawn(move || {
            let mut seen = Vec::new();
            while !ended.load(Ordering::Acquire) {
                if let Ok(metadata) = std::fs::symlink_metadata(&path) {
                    let state = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
                    if !seen.contains(&state) {
                        seen.push(state);
                    }
                    count.fetch_add(1, Ordering::Release);
                }
            }
            seen
        });
        Self { stop, sightings, watcher }
    }

    fn end(self) -> Vec<(u32, u32, u32)> {
        eventually("the socket is seen", || (self.sightings.load(Ordering::Acquire) > 0).then_some(()));
        self.stop.store(true, Ordering::Release);
        self.watcher.join().unwrap()
    }
}

#[test]
fn rights_and_owner_are_as_configured_from_the_first_moment() {
    let root = geteuid().is_root();
    for round in 0..repetitions("WINDLASS_SOCKET_ROUNDS", 10) {
        let (directory, path) = place();
        let own = std::fs::metadata(directory.path()).unwrap();
        let mode = if round % 2 == 0 { 0o600 } else { 0o666 };
        let text = format!("{mode:04o}");
        let mut settings = vec![("listen.unix_mode", &*text)];
        let mut expected = (mode, own.uid(), own.gid());
        if root {
            // Others need not exist for that.
            settings.extend([("listen.unix_owner", "12345"), ("listen.unix_group", "54321")]);
            expected = (mode, 12345, 54321);
        }
        let watch = Watch::begin(path.clone());
        let daemon = start(&path, &settings);
        let seen = watch.end();
        assert_eq!(seen, [expected], "round {round}, as (mode, uid, gid)");
        assert_eq!(entries(&directory), [path], "nothing else is left beside it");
        drop(daemon);
    }
}

#[test]
fn requests_work_over_it_and_it_is_removed_at_the_end() {
    let (directory, path) = place();
    let daemon = start(&path, &[]);
    assert_eq!(daemon.addresses()[1], address(&path));
    assert_serves(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o660);
    assert_eq!(daemon.drain().status, Some(0));
    assert_eq!(entries(&directory), [] as [PathBuf; 0]);
}

#[test]
fn a_stale_socket_is_replaced() {
    let (directory, path) = place();
    let daemon = start(&path, &[]);
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.wait().status, None);
    assert!(std::fs::metadata(&path).unwrap().file_type().is_socket(), "it is left behind");
    let daemon = start(&path, &[]);
    assert_serves(&path);
    assert_eq!(daemon.drain().status, Some(0));
    assert_eq!(entries(&directory), [] as [PathBuf; 0]);
}

#[test]
fn a_live_socket_is_not_stolen() {
    let (_directory, path) = place();
    let daemon = start(&path, &[]);
    let inode = std::fs::metadata(&path).unwrap().ino();
    let ended = attempt(&path);
    assert_eq!(ended.status, Some(69));
    let log = format!("{:?}", ended.log);
    assert!(log.contains(&format!("cannot listen on {}", address(&path))), "{log}");
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    assert_serves(&path);
    drop(daemon);

    // Of another program, whose backlog is full.
    let (_directory, path) = place();
    let other = UnixListener::bind(&path).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = connect_now(&path) {
        waiting.push(stream);
    }
    assert_eq!(attempt(&path).status, Some(69));
    drop((other, waiting));
}

/// A connection, or the error that the backlog is full.
fn connect_now(path: &Path) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

#[test]
fn a_file_that_is_no_socket_is_not_overwritten() {
    let (directory, path) = place();
    std::fs::write(&path, "precious").unwrap();
    let ended = attempt(&path);
    assert_eq!(ended.status, Some(69));
    assert!(format!("{:?}", ended.log).contains("not a socket"), "{:?}", ended.log);
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    assert_eq!(entries(&directory), [path]);

    let (directory, path) = place();
    let nowhere = directory.path().join("no-such-directory").join("s");
    assert_eq!(attempt(&nowhere).status, Some(69));
    assert!(!path.exists());
}

#[test]
fn a_socket_that_another_has_put_there_since_is_left_alone_at_the_end() {
    let (_directory, path) = place();
    let daemon = start(&path, &[]);
    std::fs::remove_file(&path).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    assert_eq!(daemon.drain().status, Some(0));
    assert!(path.exists());
    drop(other);
}

/// W-59
#[test]
fn a_peer_that_vanishes_stops_what_it_asked_for_and_harms_nobody() {
    let (_directory, path) = place();
    let daemon = start(
        &path,
        &[("cpu.threads", "1"), ("queue.max_wait", "10m"), ("timeouts.deadline_default", "10m")],
    );
    let mut peer = UnixStream::connect(&path).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let queued = [2, 3, 4].map(|id| raw::work(id, "spin", &[("for", "20s")], b"")).concat();
    let greeting = [raw::greeting(), raw::work(1, "spin", &[("for", "20s")], b""), queued].concat();
    peer.write_all(&greeting).unwrap();
    peer.read_exact(&mut [0; 8]).unwrap();
    daemon.wait_until_running("spin", 1);
    drop(peer);
    let status = daemon.wait_for_status("all of it is stopped", |status| {
        status["queue"]["admitted"] == 0 && status["connections"]["open"] == 1
    });
    assert_eq!(status["operations"]["spin"]["stopped"], 1, "{status}");
    assert_eq!(status["operations"]["spin"]["dropped"], 3, "{status}");
    assert_serves(&path);
}
