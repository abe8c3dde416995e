//! The examples of SPEC.md, read out of the document so that it cannot rot: our codec writes exactly their bytes and
//! reads them back, and a second, hand-written reading finds every annotated field in them.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

#[allow(dead_code, reason = "shared by several test programs, each of which uses a part")]
mod support;

use support::codec::{rewritten, written};
use support::{Side, examples, read_frame, session, spec};
use windlass_protocol::{
    Close, Closed, CodeClass, Credit, Extensions, FEATURE_STREAMING, FLAG_MORE, Failure, FailureCode, GoAway,
    Header, Hello, Kind, NoFields, PREFACE, PREFIX_BYTES, PRIORITY_BATCH, PRIORITY_INTERACTIVE, Prefix,
    Query, Reply, SUBJECT_CATALOGUE, SUBJECT_STATUS, VERSION, Welcome, Work, limits,
};

const MIDNIGHT: u64 = 1_767_225_600_000_000;

fn none() -> Extensions<'static> {
    Extensions::default()
}

/// A frame whose header is left out.
fn headless(kind: Kind, flags: u8, id: u64, body: &[u8]) -> Vec<u8> {
    let body_len = u32::try_from(body.len()).unwrap();
    let prefix = Prefix { kind: kind.number(), flags, header_len: 0, body_len, id };
    [&prefix.to_bytes()[..], body].concat()
}

fn work<'a>(operation: &'a str, parameters: Vec<(&'a str, &'a str)>) -> Work<'a> {
    Work {
        operation,
        parameters,
        sent_at: 0,
        deadline: None,
        priority: PRIORITY_INTERACTIVE,
        body_total: None,
        extensions: none(),
    }
}

/// What the codec writes for each example of SPEC.md, in the order of the document.
fn goldens() -> Vec<(&'static str, Vec<u8>)> {
    let empty = NoFields { extensions: none() };
    let phc = format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", "A".repeat(22), "B".repeat(198));
    let trace = [
        0x00, 0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36,
        0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7, 0x01,
    ];
    let more = FLAG_MORE;
    vec![
        ("Hello", {
            let hello = Hello {
                version_min: VERSION,
                version_max: VERSION,
                features: 0,
                frame_bytes_max: 1 << 20,
                window: 0,
                client: "spec-example",
                extensions: none(),
            };
            written(Kind::Hello, 0, 0, &hello, b"")
        }),
        ("Welcome", {
            let welcome = Welcome {
                version: VERSION,
                features: 0,
                frame_bytes_max: 67_125_280,
                window: 0,
                body_bytes_max: 64 << 20,
                in_flight_max: 1024,
                server: "windlassd/0.1.0",
                extensions: none(),
            };
            written(Kind::Welcome, 0, 0, &welcome, b"")
        }),
        ("Work", {
            let work = Work {
                sent_at: MIDNIGHT,
                deadline: Some(2500),
                body_total: Some(6),
                ..work("hash", vec![("algorithm", "sha256"), ("encoding", "hex")])
            };
            written(Kind::Work, 0, 1, &work, b"hello\n")
        }),
        ("Work, the least", {
            let work = Work { priority: PRIORITY_BATCH, ..work("echo", vec![]) };
            written(Kind::Work, 0, 2, &work, b"")
        }),
        ("Work, two extensions and a long value", {
            let work = Work {
                sent_at: MIDNIGHT,
                deadline: Some(250),
                extensions: Extensions(vec![(2, &trace), (600, b"")]),
                ..work("password-verify", vec![("hash", &phc)])
            };
            written(Kind::Work, 0, 1 << 32, &work, b"correct horse")
        }),
        ("Work, the first part of a body", {
            let work = Work { body_total: Some(4), ..work("echo", vec![]) };
            written(Kind::Work, more, 3, &work, b"ab")
        }),
        ("Data, without a header", headless(Kind::Data, more, 3, b"c")),
        ("Data, the last", written(Kind::Data, 0, 3, &empty, b"d")),
        ("Reply", {
            let reply = Reply {
                queue_time: 180,
                service_time: 70_000,
                load: 12,
                body_total: None,
                extensions: none(),
            };
            let digest = b"5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
            written(Kind::Reply, 0, 1, &reply, digest)
        }),
        ("Failure of a request", {
            let failure = Failure {
                code: FailureCode::OVERLOADED.number(),
                message: "1024 requests are unanswered on this connection, the most allowed",
                retry_after: Some(50),
                retry_safe: true,
                load: 100,
                extensions: none(),
            };
            written(Kind::Failure, 0, 2, &failure, b"")
        }),
        ("Failure of the connection", {
            let failure = Failure {
                code: FailureCode::PROTOCOL_ERROR.number(),
                message: "work ids must increase: 7 after 7",
                retry_after: None,
                retry_safe: false,
                load: 3,
                extensions: none(),
            };
            written(Kind::Failure, 0, 0, &failure, b"")
        }),
        ("Cancel", written(Kind::Cancel, 0, 1, &empty, b"")),
        ("Cancel, without a header", headless(Kind::Cancel, 0, 1, b"")),
        ("Credit", written(Kind::Credit, 0, 3, &Credit { bytes: 65_536, extensions: none() }, b"")),
        ("Ping", headless(Kind::Ping, 0, 77, b"are you there")),
        ("Pong", written(Kind::Pong, 0, 77, &empty, b"are you there")),
        ("Query", {
            let query = Query { subject: SUBJECT_CATALOGUE, extensions: none() };
            written(Kind::Query, 0, 300, &query, b"")
        }),
        ("Query, with an extension that may be ignored", {
            let query = Query { subject: SUBJECT_STATUS, extensions: Extensions(vec![(4, b"billing")]) };
            written(Kind::Query, 0, 301, &query, b"")
        }),
        ("Info", written(Kind::Info, 0, 300, &empty, br#"{"operations":[]}"#)),
        ("GoAway, send no more", {
            let away =
                GoAway { last_id: u64::MAX, reason: FailureCode::DRAINING.number(), extensions: none() };
            written(Kind::GoAway, 0, 0, &away, b"")
        }),
        ("GoAway, the last frame", {
            let away = GoAway { last_id: 70_000, reason: FailureCode::DRAINING.number(), extensions: none() };
            written(Kind::GoAway, 0, 0, &away, b"")
        }),
        ("Close", {
            let close = Close { opened_at: MIDNIGHT, closed_at: MIDNIGHT + 1_500_000, extensions: none() };
            written(Kind::Close, 0, 0, &close, b"")
        }),
        ("Closed", {
            let closed = Closed {
                requests: 3,
                failures: 1,
                bytes_in: 65_542,
                bytes_out: 64,
                queue_time: 180,
                service_time: 70_000,
                extensions: none(),
            };
            written(Kind::Closed, 0, 0, &closed, b"")
        }),
    ]
}

/// W-1
#[test]
fn the_preface_is_the_eight_bytes_of_the_document() {
    assert_eq!(PREFACE, [0x57, 0x49, 0x4e, 0x44, 0x4c, 0x41, 0x53, 0x53]);
    for side in [Side::Client, Side::Daemon] {
        let first = session().into_iter().find(|(sender, ..)| *sender == side).unwrap();
        assert_eq!(first.2, PREFACE);
    }
}

/// W-10, W-21, W-28, W-30, W-79
#[test]
fn the_codec_writes_every_example_byte_for_byte() {
    let examples = examples();
    let goldens = goldens();
    let names: Vec<_> = examples.iter().map(|example| example.name.as_str()).collect();
    let known: Vec<_> = goldens.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known, "SPEC.md and this table list different examples");
    for (example, (name, bytes)) in examples.iter().zip(&goldens) {
        assert_eq!(support::hex(&example.bytes), support::hex(bytes), "{name}");
    }
    for kind in Kind::ALL {
        let shown = examples.iter().any(|example| example.bytes[0] == kind.number());
        assert!(shown, "SPEC.md shows no {} frame", kind.name());
    }
}

/// W-10, W-21, W-28, W-29, W-30
#[test]
fn a_second_reading_finds_every_annotated_field() {
    for example in examples() {
        let (fields, used) = read_frame(&example.bytes).unwrap();
        assert_eq!(used, example.bytes.len(), "{}", example.name);
        assert_eq!(fields, example.fields, "{}", example.name);
    }
}

/// W-16, W-17, W-18, W-29, W-30
#[test]
fn the_codec_reads_every_example_as_what_it_wrote() {
    for example in examples() {
        let prefix = Prefix::peek(&example.bytes).unwrap();
        assert!(prefix.check().is_ok(), "{}: {prefix:?}", example.name);
        assert_eq!(prefix.frame_bytes(), example.bytes.len() as u64);
        let (header, body) = example.bytes[PREFIX_BYTES..].split_at(usize::from(prefix.header_len));
        assert_eq!(body.len(), prefix.body_len as usize);
        if header.is_empty() {
            let kind = Kind::ALL[usize::from(prefix.kind) - 1];
            assert_eq!(NoFields::decode(kind, header).unwrap(), NoFields::default());
        } else {
            assert_eq!(rewritten(prefix.kind, header).unwrap(), header, "{}", example.name);
        }
    }
}

/// W-88
#[test]
fn the_session_of_the_document_is_made_of_whole_frames_in_a_lawful_order() {
    let pieces = session();
    let mut last_work = 0;
    let mut answered = Vec::new();
    for (side, remark, bytes) in &pieces {
        if bytes.is_empty() || *bytes == PREFACE {
            continue;
        }
        let (fields, used) = read_frame(bytes).unwrap();
        assert_eq!(used, bytes.len(), "{remark}");
        let prefix = Prefix::peek(bytes).unwrap();
        assert!(prefix.check().is_ok(), "{remark}");
        let name = fields[0].value.split_once(' ').unwrap().1;
        assert!(remark.starts_with(name), "{remark} is a {name} frame");
        if let Some(field) = fields.last().filter(|field| field.name == "body") {
            assert!(remark.contains(&field.value), "{remark}: {}", field.value);
        }
        match (side, name) {
            (Side::Client, "Work") => {
                assert!(prefix.id > last_work);
                last_work = prefix.id;
            }
            (Side::Daemon, "Reply" | "Failure") => answered.push(prefix.id),
            (Side::Client, "Hello" | "Ping" | "Close") => {}
            (Side::Daemon, "Welcome" | "Pong" | "Closed" | "GoAway") => {}
            (side, name) => panic!("{name} from {side:?}"),
        }
    }
    assert_eq!(answered, [2, 1], "every request once, in an order of the daemon's choice");
    let last = pieces.iter().rfind(|(side, _, bytes)| *side == Side::Daemon && !bytes.is_empty()).unwrap();
    let header = &last.2[PREFIX_BYTES..];
    assert_eq!(GoAway::decode(header).unwrap().last_id, last_work, "GoAway is the daemon's last frame");
}

/// The rows of the table whose head starts with `| head |`, cells trimmed.
fn table(head: &str) -> Vec<Vec<String>> {
    let text = spec();
    let start = format!("| {head} |");
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&start));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    assert!(lines.next().is_some() && lines.next().is_some(), "no table {head}");
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// W-28, W-30
#[test]
fn the_tables_of_fields_are_those_of_the_second_reading() {
    let text = spec();
    let mut shown = Vec::new();
    for section in text.split("\n### 5.").skip(1) {
        let number: u8 = section.split([' ', '.']).next().unwrap().parse().unwrap();
        let rows: Vec<(String, String)> = section
            .lines()
            .take_while(|line| !line.starts_with("## "))
            .skip_while(|line| !line.starts_with("| field |"))
            .skip(2)
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
                (cells.next().unwrap(), cells.next().unwrap())
            })
            .collect();
        let (name, mut fields) = support::layout(number);
        assert!(section.contains(name), "5.{number} is about {name}");
        if fields.is_empty() {
            assert!(rows.is_empty() && section.contains("No fields but extensions."), "{name}");
        } else {
            fields.push(("extensions".to_owned(), "list".to_owned()));
            assert_eq!(rows, fields, "{name}");
        }
        shown.push(number);
    }
    // Ping and Pong share a section.
    assert_eq!(shown, [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15]);
}

/// W-70, W-80
#[test]
fn the_table_of_codes_is_that_of_the_codec() {
    let rows: Vec<(u16, String)> =
        table("code | name").into_iter().map(|row| (row[0].parse().unwrap(), row[1].clone())).collect();
    let codes: Vec<(u16, String)> =
        FailureCode::ALL.iter().map(|code| (code.number(), code.name().to_owned())).collect();
    assert_eq!(rows, codes);
}

/// W-71
#[test]
fn an_unknown_code_is_read_by_its_ten() {
    let class = |number| FailureCode::from_number(number).class();
    for (number, known) in [(0, 1), (9, 1), (15, 10), (22, 20), (39, 30), (41, 40), (50, 40), (u16::MAX, 40)]
    {
        assert_eq!(class(number), class(known), "{number}");
    }
    assert_eq!(class(20), CodeClass::Capacity);
}

/// W-75
#[test]
fn the_table_of_limits_is_that_of_the_codec() {
    let found: Vec<u64> = table("limit | value")
        .iter()
        .map(|row| {
            let digits: String = row[1]
                .chars()
                .take_while(|letter| letter.is_ascii_digit() || *letter == ',')
                .filter(char::is_ascii_digit)
                .collect();
            digits.parse().unwrap()
        })
        .collect();
    let limits = [
        u64::from(limits::HEADER_BYTES_MAX),
        limits::PARAMETERS_MAX as u64,
        limits::NAME_BYTES_MAX as u64,
        limits::VALUE_BYTES_MAX as u64,
        limits::MESSAGE_BYTES_MAX as u64,
        limits::EXTENSIONS_MAX as u64,
        u64::from(limits::PING_BYTES_MAX),
        u64::from(limits::FRAME_BYTES_MIN),
        limits::SKIP_BYTES_MAX,
    ];
    assert_eq!(found, limits);
}

/// W-75
#[test]
fn a_long_message_is_cut_at_a_character_boundary() {
    let long = format!("x{}", "é".repeat(600));
    let cut = Failure::bounded(&long);
    assert_eq!(cut.len(), limits::MESSAGE_BYTES_MAX - 1);
    assert_eq!(Failure::bounded("short"), "short");
}

/// W-80
#[test]
fn the_numbers_are_those_of_the_document() {
    let names = spec();
    for kind in Kind::ALL {
        let number = kind.number();
        let stands =
            [format!("### 5.{number} {} ({number},", kind.name()), format!("{} ({number}", kind.name())];
        assert!(stands.iter().any(|text| names.contains(text)), "{} {number}", kind.name());
    }
    assert_eq!((FLAG_MORE, FEATURE_STREAMING), (1, 1));
    assert_eq!((PRIORITY_INTERACTIVE, PRIORITY_BATCH), (0, 1));
    assert_eq!((SUBJECT_CATALOGUE, SUBJECT_STATUS), (1, 2));
    assert_eq!(VERSION, 1);
}
