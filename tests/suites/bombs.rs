//! Small requests that ask for much memory: stopped at the limit, and the daemon stays small.

use windlass_protocol::{FailureCode, Kind};
use windlass_tests::Daemon;
use windlass_tests::raw::{self, Raw};

const MIB: u64 = 1 << 20;

/// Largest resident size until now, bytes.
fn peak(daemon: &Daemon) -> u64 {
    let text = daemon.process_status("VmHWM").unwrap();
    text.strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[track_caller]
fn ask(
    connection: &mut Raw,
    id: u64,
    operation: &str,
    parameters: &[(&str, &str)],
    body: &[u8],
) -> raw::Frame {
    connection.send(&raw::work(id, operation, parameters, body));
    let frame = connection.frame().unwrap();
    assert_eq!(frame.id, id);
    frame
}

/// 1 GiB of zeros, as members of 32 MiB one behind the other, which all of these formats allow.
#[test]
fn a_gigabyte_of_zeros_in_a_megabyte_is_stopped_at_the_output_limit() {
    let maker = Daemon::start(&[]);
    let mut connection = Raw::open(maker.host_port());
    let zeros = vec![0; 32 << 20];
    let formats = [("zstd", "19"), ("gzip", "9"), ("lz4", "1")];
    let bombs = formats.map(|(algorithm, level)| {
        let id = 1 + formats.iter().position(|(name, _)| *name == algorithm).unwrap() as u64;
        let parameters = [("algorithm", algorithm), ("level", level)];
        let member = ask(&mut connection, id, "compress", &parameters, &zeros);
        assert_eq!(member.kind, Kind::Reply, "{:?}", member.failure());
        (algorithm, member.body.repeat(32))
    });
    assert!(bombs[1].1.len() < 2 << 20, "gzip: {} bytes", bombs[1].1.len());

    // With the limit on the ratio as it is, and without.
    for ratio_max in ["1000", "1000000000"] {
        let settings = [
            ("operations.decompress.output_max", "16MiB"),
            ("operations.decompress.ratio_max", ratio_max),
            ("cpu.threads", "1"),
        ];
        let daemon = Daemon::start(&settings);
        let mut connection = Raw::open(daemon.host_port());
        let small = ask(&mut connection, 1, "echo", &[], b"");
        assert_eq!(small.kind, Kind::Reply);
        let before = peak(&daemon);
        for ((algorithm, bomb), id) in bombs.iter().zip(2..) {
            let answer = ask(&mut connection, id, "decompress", &[("algorithm", algorithm)], bomb);
            let (code, message, _) = answer.failure().expect("a Failure");
            assert_eq!(code, FailureCode::TOO_LARGE, "{algorithm}: {message}");
            let grown = peak(&daemon) - before;
            // The bomb itself, its output up to the limit while that grows, and the work areas; as much again that is
            // free and goes back to the system a second later.
            let bound = 2 * (bomb.len() as u64 + 3 * 16 * MIB + 8 * MIB);
            assert!(grown < bound, "{algorithm}: {} MiB for a bomb", grown / MIB);
        }
        daemon.wait_for_status("nothing is held", |status| status["queue"]["held_bytes"] == 0);
    }
}

/// Known from the header alone: told at once, while the only worker is busy.
#[test]
fn memory_of_a_password_hash_over_the_cap_is_refused_before_it_is_taken() {
    let settings = [("cpu.threads", "1"), ("operations.password-hash.memory_max", "64MiB")];
    let daemon =
        Daemon::start(&[&settings[..], &[("operations.password-verify.memory_max", "64MiB")]].concat());
    let mut occupant = Raw::open(daemon.host_port());
    occupant.send(&raw::work(1, "spin", &[("for", "25s")], b""));
    daemon.wait_until_running("spin", 1);
    let mut connection = Raw::open(daemon.host_port());
    let before = peak(&daemon);
    let stored = |memory: u64, passes: u64| {
        format!("$argon2id$v=19$m={memory},t={passes},p=1$c29tZXNhbHRzb21lc2FsdA${}", "A".repeat(43))
    };
    let verify = [stored(64 * 1024 + 1, 1), stored(4 * 1024 * 1024, 1), stored(u64::from(u32::MAX), 3)];
    let mut requests = vec![("password-hash", ("memory", "65MiB".to_owned()))];
    requests.push(("password-hash", ("memory", "1GiB".to_owned())));
    requests.extend(verify.into_iter().map(|hash| ("password-verify", ("hash", hash))));
    requests.push(("password-verify", ("hash", stored(8, u64::from(u32::MAX)))));
    for ((operation, (key, value)), id) in requests.iter().zip(1..) {
        let answer = ask(&mut connection, id, operation, &[(key, value)], b"secret");
        let (code, message, retry_safe) = answer.failure().expect("a Failure");
        assert_eq!((code, retry_safe), (FailureCode::INVALID_PARAMETER, true), "{value}: {message}");
        assert!(!message.contains("AAAA"), "the stored hash is not repeated: {message}");
    }
    assert!(peak(&daemon) - before < 4 * MIB);
    occupant.send(&raw::cancel(1));
    let answer = ask(&mut connection, 100, "password-verify", &[("hash", &stored(64, 1))], b"secret");
    assert_eq!(answer.body, b"false", "{:?}", answer.failure());
}
