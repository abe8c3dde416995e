//! A listening socket that fails is opened again, within a limit.

use std::net::SocketAddr;

use rustix::net::{Shutdown, getsockname, shutdown, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, eventually};

/// Ends a listening socket of the daemon behind its back, as a fault of the system would.
fn break_listener(daemon: &Daemon, address: SocketAddr) {
    let pid = Pid::from_raw(i32::try_from(daemon.pid()).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let sockets = descriptors.filter_map(|entry| {
        let number = entry.ok()?.file_name().to_str()?.parse().ok()?;
        pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok()
    });
    let listening = sockets
        .filter(|socket| sockopt::socket_acceptconn(socket).unwrap_or(false))
        .find(|socket| getsockname(socket).is_ok_and(|name| SocketAddr::try_from(name) == Ok(address)));
    shutdown(listening.expect("the daemon listens there"), Shutdown::Both).unwrap();
}

#[test]
fn a_listener_that_fails_is_started_again_and_harms_nobody() {
    let daemon = Daemon::start(&[]);
    let address: SocketAddr = daemon.host_port().parse().unwrap();
    let mut before = Raw::open(daemon.host_port());
    break_listener(&daemon, address);
    daemon.wait_for_log("starting it again");
    before.send(&raw::work(1, "echo", &[], b"still here"));
    assert_eq!(before.frame().unwrap().body, b"still here");
    let restarts = || raw::status(&mut Raw::open(daemon.host_port()))["listener_restarts"] == 1;
    eventually("it listens again", || {
        std::net::TcpStream::connect(address).is_ok().then(restarts).filter(|restarted| *restarted)
    });
}

#[test]
fn listeners_that_fail_again_and_again_end_the_daemon_with_status_1() {
    let daemon = Daemon::start(&[]);
    let address: SocketAddr = daemon.host_port().parse().unwrap();
    for n_broken in 1..=6 {
        eventually("it listens", || std::net::TcpStream::connect(address).ok());
        break_listener(&daemon, address);
        eventually("it is noticed", || {
            let log = daemon.log();
            let noticed = log
                .iter()
                .filter(|event| event["message"].as_str().is_some_and(|m| m.contains("starting it again")));
            (noticed.count() >= n_broken).then_some(())
        });
    }
    let ended = daemon.wait();
    assert_eq!(ended.status, Some(1));
    assert!(
        ended.log.iter().any(|event| event["message"].as_str().is_some_and(|m| m.contains("fail too often")))
    );
}
