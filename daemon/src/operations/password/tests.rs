use std::time::Instant;

use windlass_actors::operation::{Stop, run_alone};
use zeroize::Zeroizing;

use super::*;

fn far() -> Instant {
    Instant::now() + Duration::from_secs(300)
}

fn secret(password: &[u8]) -> Input {
    Input::Secret(Zeroizing::new(password.to_vec()))
}

fn text(output: Output) -> String {
    String::from_utf8(output.0.to_vec()).unwrap()
}

fn hash(parameters: &[(&str, &str)], password: &[u8]) -> Result<String, OperationError> {
    run_alone(&*build_hash(hash_declaration()), parameters, secret(password), far()).map(text)
}

fn verify_with(settings: &[(&str, &str)], stored: &str, password: &[u8]) -> Result<String, OperationError> {
    let mut declaration = verify_declaration();
    for (key, value) in settings {
        declaration.set(key, value).unwrap();
    }
    run_alone(&*build_verify(declaration), &[("hash", stored)], secret(password), far()).map(text)
}

fn verify(stored: &str, password: &[u8]) -> Result<String, OperationError> {
    verify_with(&[], stored, password)
}

#[track_caller]
fn assert_refused(result: Result<String, OperationError>, contains: &str) {
    match result {
        Err(OperationError::InvalidParameter(message)) => assert!(message.contains(contains), "{message}"),
        other => panic!("{other:?}"),
    }
}

const QUICK: &[&[(&str, &str)]] = &[
    &[("memory", "64KiB")],
    &[("memory", "256KiB"), ("iterations", "3"), ("parallelism", "4")],
    &[("algorithm", "scrypt"), ("log-n", "4"), ("parallelism", "2")],
    &[("algorithm", "bcrypt"), ("cost", "4")],
];

#[test]
fn published_pairs_verify() {
    let pairs: &[(&[u8], &str)] = &[
        // The test vectors of the reference implementation of argon2 (src/test.c), all three types, both
        // versions.
        (
            b"password",
            "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        ),
        (b"password", "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"),
        (b"password", "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc"),
        (
            b"password",
            "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA",
        ),
        (b"password", "$argon2i$m=65536,t=2,p=1$c29tZXNhbHQ$9sTbSlTio3Biev89thdrlKKiCaYsjjYVJxGAL3swxpQ"),
        // RFC 7914, section 12: N = 16384, r = 8, p = 1.
        (
            b"pleaseletmein",
            "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$\
             cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw",
        ),
        // The documentation of passlib.
        (
            b"password",
            "$scrypt$ln=16,r=8,p=1$aM15713r3Xsvxbi31lqr1Q$nFNh2CVHVjNldFVKDHDlm4CbdRSCdEBsjjJxD+iCs5E",
        ),
        // The self-test of crypt_blowfish.
        (b"U*U", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        (b"U*U*", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK"),
        (b"", "$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        (b"U*U", "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
        (b"U*U", "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"),
    ];
    for (password, stored) in pairs {
        assert_eq!(verify(stored, password).as_deref(), Ok("true"), "{stored}");
        assert_eq!(verify(stored, b"another").as_deref(), Ok("false"), "{stored}");
    }
}

#[test]
fn what_is_hashed_verifies_and_wrong_passwords_are_false() {
    for parameters in QUICK {
        for password in [&b""[..], b"a", b"correct horse battery staple", "pässwörd".as_bytes(), b" padded "]
        {
            let stored = hash(parameters, password).unwrap();
            assert_eq!(verify(&stored, password).as_deref(), Ok("true"), "{stored}");
            assert_eq!(verify(&stored, b"wrong").as_deref(), Ok("false"), "{stored}");
            assert_eq!(verify(&stored, &[password, b"x"].concat()).as_deref(), Ok("false"), "{stored}");
        }
    }
}

#[test]
fn hashes_say_their_costs_and_salts_are_fresh() {
    let defaults = hash(&[], b"password").unwrap();
    assert!(defaults.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{defaults}");
    assert_ne!(defaults, hash(&[], b"password").unwrap());
    let parallel = hash(QUICK[1], b"password").unwrap();
    assert!(parallel.starts_with("$argon2id$v=19$m=256,t=3,p=4$"), "{parallel}");
    let scrypt = hash(QUICK[2], b"password").unwrap();
    assert!(scrypt.starts_with("$scrypt$ln=4,r=8,p=2$"), "{scrypt}");
    let bcrypt = hash(QUICK[3], b"password").unwrap();
    assert!(bcrypt.starts_with("$2b$04$") && bcrypt.len() == 60, "{bcrypt}");
    assert!([defaults, parallel, scrypt].iter().all(|text| text.len() as u64 <= OUTPUT_BYTES));
}

#[test]
fn a_kept_area_changes_no_result_and_keeps_no_block() {
    let recipe = |memory_kib| Recipe::Argon2 {
        algorithm: Algorithm::Argon2id,
        version: Version::V0x13,
        params: Params::new(memory_kib, 2, 1, None).unwrap(),
    };
    let mut area = <recipe::Argon2Area as windlass_actors::operation::WorkArea>::new();
    let salt = [7; SALT_BYTES];
    let first = recipe(256).hash(b"password", &salt, &mut area).unwrap();
    assert!(area.is_wiped());
    recipe(512).hash(b"another", &salt, &mut area).unwrap();
    recipe(64).hash(b"a third", &salt, &mut area).unwrap();
    assert!(area.is_wiped());
    assert_eq!(recipe(256).hash(b"password", &salt, &mut area).unwrap(), first);
}

#[test]
fn costs_over_a_cap_are_refused_by_the_estimate() {
    let operation = build_hash(hash_declaration());
    let estimate = |parameters: &[(&str, &str)]| {
        let arguments = Arguments::check(operation.declaration(), parameters).unwrap();
        operation.estimate(&arguments, 8).map(|_| String::new())
    };
    assert_refused(estimate(&[("memory", "256MiB"), ("iterations", "100")]), "time_max");
    assert_refused(estimate(&[("memory", "16KiB"), ("parallelism", "16")]), "every lane");
    assert_refused(estimate(&[("memory", "20000B")]), "whole number");
    assert_refused(
        estimate(&[("algorithm", "scrypt"), ("log-n", "16"), ("block-size", "1")]),
        "block-size of 1",
    );
    assert_refused(
        estimate(&[("algorithm", "scrypt"), ("log-n", "17"), ("block-size", "32")]),
        "over the cap of 256MiB",
    );
    for (name, value) in
        [("memory", "1GiB"), ("iterations", "1001"), ("parallelism", "17"), ("log-n", "18"), ("cost", "14")]
    {
        assert!(Arguments::check(operation.declaration(), &[(name, value)]).is_err(), "{name}");
    }
}

#[test]
fn the_costs_inside_a_stored_hash_are_held_to_the_caps() {
    let tail = "$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    for (costs, named) in [
        ("$argon2id$v=19$m=4194304,t=1,p=1", "memory of 4GiB"),
        ("$argon2id$v=19$m=4294967295,t=1,p=1", "memory"),
        ("$argon2id$v=19$m=1048576,t=1,p=1", "memory of 1GiB"),
        ("$argon2id$v=19$m=64,t=4294967295,p=1", "iterations"),
        ("$argon2id$v=19$m=1024,t=1,p=100", "parallelism"),
        ("$argon2id$v=19$m=262144,t=100,p=1", "time_max"),
        ("$scrypt$ln=30,r=8,p=1", "log-n"),
        ("$scrypt$ln=63,r=8,p=1", "log-n"),
        ("$scrypt$ln=4,r=1000,p=1", "block-size"),
        ("$scrypt$ln=4,r=8,p=1000000", "parallelism"),
    ] {
        assert_refused(verify(&format!("{costs}{tail}"), b"password"), named);
    }
    for cost in ["14", "31"] {
        let stored = format!("$2b${cost}$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW");
        assert_refused(verify(&stored, b"U*U"), "cost");
    }
    let stored = hash(&[("memory", "1MiB")], b"password").unwrap();
    assert_refused(verify_with(&[("memory_max", "512KiB")], &stored, b"password"), "over the cap of 512KiB");
    assert_eq!(verify_with(&[("memory_max", "1MiB")], &stored, b"password").as_deref(), Ok("true"));
}

#[test]
fn an_operator_lowers_the_caps() {
    let mut declaration = hash_declaration();
    declaration.set("memory_max", "32MiB").unwrap();
    declaration.set("time_max", "100ms").unwrap();
    declaration.check().unwrap();
    let operation = build_hash(declaration);
    let estimate = |parameters: &[(&str, &str)]| {
        let arguments = Arguments::check(operation.declaration(), parameters).unwrap();
        operation.estimate(&arguments, 8).map(|_| String::new())
    };
    assert_refused(estimate(&[("algorithm", "scrypt"), ("log-n", "16")]), "over the cap of 32MiB");
    assert_refused(estimate(&[("algorithm", "bcrypt")]), "time_max");
    assert!(estimate(&[]).is_ok());
    assert!(Arguments::check(operation.declaration(), &[("memory", "64MiB")]).is_err());
}

#[test]
fn defaults_are_within_the_caps_of_both_operations() {
    for algorithm in ["argon2id", "scrypt", "bcrypt"] {
        let stored = hash(&[("algorithm", algorithm)], b"password").unwrap();
        assert_eq!(verify(&stored, b"password").as_deref(), Ok("true"), "{algorithm}");
    }
}

#[test]
fn malformed_hashes_are_refused_without_being_repeated() {
    let salt_and_hash = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    for stored in [
        "",
        "hunter2",
        "$",
        "$argon2id$",
        "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ",
        "$md5$v=1$m=64$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
        "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$99$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
        "$2b$05$CCCC",
        "$2b$05$ööööööööööööööööööööö",
        "$2b\u{20ac}",
    ] {
        assert_refused(verify(stored, b"password"), "parameter 'hash'");
    }
    for head in [
        "$argon2id$v=18$m=64,t=1,p=1",
        "$argon2id$v=19$m=64,t=1",
        "$argon2id$v=19$m=64,t=1,p=1,keyid=abcd",
        "$argon2id$v=19$m=64,t=1,t=1",
        "$argon2id$v=19$m=64,t=x,p=1",
        "$argon2id$v=19$m=7,t=1,p=1",
        "$argon2id$v=19$m=64,t=0,p=1",
        "$scrypt$ln=0,r=0,p=1",
        "$scrypt$ln=300,r=8,p=1",
        "$scrypt$v=1$ln=4,r=8,p=1",
    ] {
        let result = verify(&format!("{head}${salt_and_hash}"), b"password");
        assert!(!format!("{result:?}").contains("CTFhFdXP"), "the hash is repeated");
        assert_refused(result, "parameter 'hash'");
    }
}

#[test]
fn bcrypt_refuses_what_it_would_not_read() {
    let parameters = &[("algorithm", "bcrypt"), ("cost", "4")];
    let longest = [b'x'; 72];
    let stored = hash(parameters, &longest).unwrap();
    assert_eq!(verify(&stored, &longest).as_deref(), Ok("true"));
    assert_eq!(verify(&stored, &longest[..71]).as_deref(), Ok("false"));
    for password in [&[b'x'; 73][..], b"before\0after"] {
        for result in [hash(parameters, password), verify(&stored, password)] {
            match result {
                Err(OperationError::InvalidInput(message)) => {
                    assert!(message.contains("bcrypt"), "{message}")
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn long_passwords_are_refused_from_their_length() {
    let long = vec![b'x'; 4097];
    assert!(matches!(hash(QUICK[0], &long), Err(OperationError::TooLarge(_))));
    let stored = hash(QUICK[0], &long[..4096]).unwrap();
    assert_eq!(verify(&stored, &long[..4096]).as_deref(), Ok("true"));
    assert!(matches!(verify(&stored, &long), Err(OperationError::TooLarge(_))));
}

#[test]
fn a_deadline_in_the_past_stops_before_the_work() {
    let stopped = Err(OperationError::Stopped(Stop::DeadlineExceeded));
    let ended = run_alone(&*build_hash(hash_declaration()), &[], secret(b"password"), Instant::now());
    assert_eq!(ended, stopped);
    let stored = hash(QUICK[0], b"password").unwrap();
    let verifier = build_verify(verify_declaration());
    assert_eq!(run_alone(&*verifier, &[("hash", &stored)], secret(b"password"), Instant::now()), stopped);
}
