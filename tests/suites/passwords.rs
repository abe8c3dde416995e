//! Password hashes made here verify elsewhere, and the other way round.

use std::io::Write;
use std::process::Command;

use tempfile::NamedTempFile;
use windlass_protocol::Kind;
use windlass_tests::{Daemon, python, python_with, raw, run, tool};

const PASSWORD: &str = "correct horse battery staple";

/// Wrong in the way that tests a comparison: one letter, at the end.
const WRONG: &str = "correct horse battery stapl";

struct Passwords {
    connection: raw::Raw,
    id: u64,
}

impl Passwords {
    fn open(daemon: &Daemon) -> Self {
        Self { connection: raw::Raw::open(daemon.host_port()), id: 0 }
    }

    #[track_caller]
    fn ask(&mut self, operation: &str, parameters: &[(&str, &str)], password: &str) -> String {
        self.id += 1;
        self.connection.send(&raw::work(self.id, operation, parameters, password.as_bytes()));
        let answer = self.connection.frame().unwrap();
        assert_eq!((answer.kind, answer.id), (Kind::Reply, self.id), "{operation}: {:?}", answer.failure());
        String::from_utf8(answer.body).unwrap()
    }

    /// The right password is `true` and the wrong one `false`, which is an answer and not an error.
    #[track_caller]
    fn assert_verifies(&mut self, hash: &str) {
        assert_eq!(self.ask("password-verify", &[("hash", hash)], PASSWORD), "true", "{hash}");
        assert_eq!(self.ask("password-verify", &[("hash", hash)], WRONG), "false", "{hash}");
        assert_eq!(self.ask("password-verify", &[("hash", hash)], ""), "false", "{hash}");
    }
}

/// What a Python program prints about `arguments`.
#[track_caller]
fn prints(mut python: Command, program: &str, arguments: &[&str]) -> String {
    run(python.args(["-c", program]).args(arguments), b"").ok().text().trim().to_owned()
}

#[test]
fn argon2_hashes_verify_in_the_reference_implementation_and_its_own_here() {
    let daemon = Daemon::start(&[]);
    let mut passwords = Passwords::open(&daemon);
    let costs: [&[(&str, &str)]; 3] = [
        &[],
        &[("memory", "64KiB"), ("iterations", "3"), ("parallelism", "4")],
        &[("memory", "8MiB"), ("iterations", "1")],
    ];
    for costs in costs {
        let hash = passwords.ask("password-hash", costs, PASSWORD);
        assert!(hash.starts_with("$argon2id$v=19$m="), "{hash}");
        passwords.assert_verifies(&hash);
        if let Some(python) = python_with("argon2") {
            let program = "import sys, argon2\n\
                           def verifies(password):\n\
                           \x20   try: return argon2.PasswordHasher().verify(sys.argv[1], password)\n\
                           \x20   except argon2.exceptions.VerifyMismatchError: return False\n\
                           print(verifies(sys.argv[2]), verifies(sys.argv[3]))";
            assert_eq!(prints(python, program, &[&hash, PASSWORD, WRONG]), "True False", "{hash}");
        }
    }
    let kinds: [&[&str]; 4] = [
        &["-id", "-k", "19456", "-t", "2", "-p", "1"],
        &["-id", "-k", "256", "-t", "3", "-p", "4", "-l", "64"],
        &["-i", "-k", "1024", "-t", "3"],
        &["-d", "-k", "1024", "-t", "1", "-v", "10"],
    ];
    for kind in kinds {
        let Some(mut argon2) = tool("argon2") else { return };
        let made = run(argon2.arg("saltsaltsalt").args(kind).arg("-e"), PASSWORD.as_bytes()).ok();
        passwords.assert_verifies(made.text().trim());
    }
}

#[test]
fn scrypt_hashes_are_those_of_openssl() {
    let daemon = Daemon::start(&[]);
    let mut passwords = Passwords::open(&daemon);
    let Some(python) = python() else { return };
    let hash = passwords.ask(
        "password-hash",
        &[("algorithm", "scrypt"), ("log-n", "11"), ("block-size", "4"), ("parallelism", "2")],
        PASSWORD,
    );
    passwords.assert_verifies(&hash);
    let derive = "import base64, hashlib, sys\n\
                  def decode(text): return base64.b64decode(text + '=' * (-len(text) % 4))\n\
                  def encode(data): return base64.b64encode(data).decode().rstrip('=')\n\
                  def derive(password, salt, ln, r, p, size): return hashlib.scrypt(password.encode(), \
                  salt=salt, n=1 << ln, r=r, p=p, dklen=size, maxmem=1 << 30)\n";
    let again = "_, name, costs, salt, digest = sys.argv[1].split('$')\n\
                 costs = dict(cost.split('=') for cost in costs.split(','))\n\
                 ln, r, p = (int(costs[name]) for name in ('ln', 'r', 'p'))\n\
                 derived = derive(sys.argv[2], decode(salt), ln, r, p, len(decode(digest)))\n\
                 print(name, ln, r, p, derived == decode(digest))";
    assert_eq!(prints(python, &format!("{derive}{again}"), &[&hash, PASSWORD]), "scrypt 11 4 2 True");
    let make = "digest = derive(sys.argv[1], b'0123456789abcdef', 10, 8, 1, 32)\n\
                print('$scrypt$ln=10,r=8,p=1$' + encode(b'0123456789abcdef') + '$' + encode(digest))";
    let python = windlass_tests::python().expect("it was here a moment ago");
    passwords.assert_verifies(&prints(python, &format!("{derive}{make}"), &[PASSWORD]));
}

#[test]
fn bcrypt_hashes_verify_in_other_implementations_and_theirs_here() {
    let daemon = Daemon::start(&[]);
    let mut passwords = Passwords::open(&daemon);
    let hash = passwords.ask("password-hash", &[("algorithm", "bcrypt"), ("cost", "5")], PASSWORD);
    assert!(hash.starts_with("$2b$05$"), "{hash}");
    passwords.assert_verifies(&hash);
    if let Some(python) = python_with("bcrypt") {
        let program = "import sys, bcrypt\n\
                       def verifies(password): return bcrypt.checkpw(password.encode(), sys.argv[1].encode())\n\
                       print(verifies(sys.argv[2]), verifies(sys.argv[3]))\n\
                       print(bcrypt.hashpw(sys.argv[2].encode(), bcrypt.gensalt(5)).decode())";
        let printed = prints(python, program, &[&hash, PASSWORD, WRONG]);
        let (verified, made) = printed.split_once('\n').unwrap();
        assert_eq!(verified, "True False");
        passwords.assert_verifies(made);
    }
    let Some(mut htpasswd) = tool("htpasswd") else { return };
    let made = run(htpasswd.args(["-nbB", "-C", "5", "someone", PASSWORD]), b"").ok();
    let theirs = made.text().trim().strip_prefix("someone:").unwrap();
    assert!(theirs.starts_with("$2y$05$"), "{theirs}");
    passwords.assert_verifies(theirs);
    // It knows the same algorithm by an older name only.
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "someone:{}", hash.replacen("$2b$", "$2y$", 1)).unwrap();
    for (password, status) in [(PASSWORD, 0), (WRONG, 3)] {
        let mut htpasswd = tool("htpasswd").expect("it was here a moment ago");
        let ran = run(htpasswd.arg("-vb").arg(file.path()).args(["someone", password]), b"");
        assert_eq!(ran.status, Some(status), "{}", ran.stderr);
    }
}
