//! Bytes from strangers: cut, lengthened, lying, random. The codec and the hand-written reading must agree on what is
//! a header and what it says, and neither may panic.

#![allow(clippy::unwrap_used, reason = "a test stops at the first thing that is wrong")]

#[allow(dead_code, reason = "shared by several test programs, each of which uses a part")]
mod support;

use support::codec::{rewritten, written};
use support::{Field, examples, hex, read_header};
use windlass_protocol::{
    DecodeError, Extensions, Header, Kind, KindNumber, NoFields, PREFIX_BYTES, PRIORITY_INTERACTIVE, Prefix,
    Subject, Terms, Violation, Work, limits,
};

const EMPTY_HEADER_ALLOWED: [Kind; 5] = [Kind::Data, Kind::Cancel, Kind::Ping, Kind::Pong, Kind::Info];

/// Kind and header bytes of every example of SPEC.md.
fn headers() -> Vec<(u8, Vec<u8>)> {
    let header = |bytes: &[u8]| {
        let prefix = Prefix::peek(bytes).unwrap();
        (prefix.kind, bytes[PREFIX_BYTES..][..usize::from(prefix.header_len)].to_vec())
    };
    examples().iter().map(|example| header(&example.bytes)).collect()
}

/// Names and values without the bytes, which differ between a long and a short form of one integer.
fn meaning(fields: Vec<Field>) -> Vec<(String, String)> {
    fields.into_iter().map(|field| (field.name, field.value)).collect()
}

/// A Work read in two steps says what it says when it is read in one, or is refused both times.
fn read_in_two_steps_alike(header: &[u8]) {
    let whole = Work::decode(header);
    let steps =
        Subject::decode(header).and_then(|(subject, used)| Ok((subject, Terms::decode(&header[used..])?)));
    assert_eq!(whole.is_ok(), steps.is_ok(), "{}", hex(&header[..header.len().min(64)]));
    let (Ok(whole), Ok((subject, terms))) = (whole, steps) else { return };
    assert_eq!((whole.operation, whole.parameters), (subject.operation, subject.parameters));
    let whole = (whole.sent_at, whole.deadline, whole.priority, whole.body_total, whole.extensions);
    assert_eq!(whole, (terms.sent_at, terms.deadline, terms.priority, terms.body_total, terms.extensions));
}

/// All readings of a header, compared: whether they accept it, and what it says.
fn agreed(kind: u8, header: &[u8]) -> bool {
    if kind == Kind::Work.number() {
        read_in_two_steps_alike(header);
    }
    let shown = || hex(&header[..header.len().min(64)]);
    match (rewritten(kind, header), read_header(kind, header)) {
        (Err(_), Err(_)) => false,
        (Ok(_), Ok(_)) if header.is_empty() => true,
        (Ok(again), Ok(fields)) => {
            let again = read_header(kind, &again).unwrap();
            assert_eq!(meaning(fields), meaning(again), "{kind} {}", shown());
            true
        }
        (Err(error), Ok(_)) => panic!("only the codec refuses {kind} {}: {error}", shown()),
        (Ok(_), Err(error)) => panic!("only the codec accepts {kind} {}: {error}", shown()),
    }
}

fn refused(kind: Kind, header: &[u8]) {
    assert!(!agreed(kind.number(), header), "{} {}", kind.name(), hex(header));
}

fn accepted(kind: Kind, header: &[u8]) {
    assert!(agreed(kind.number(), header), "{} {}", kind.name(), hex(header));
}

/// The shortest form of an integer, by hand.
fn variable(value: u64) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    match value {
        0..=250 => vec![bytes[0]],
        251..=0xffff => [&[0xfb], &bytes[..2]].concat(),
        0x1_0000..=0xffff_ffff => [&[0xfc], &bytes[..4]].concat(),
        _ => [&[0xfd], &bytes[..]].concat(),
    }
}

/// The 1 + 2^n byte form of an integer, however small it is.
fn form(width: usize, value: u64) -> Vec<u8> {
    let first = match width {
        2 => 0xfb,
        4 => 0xfc,
        _ => 0xfd,
    };
    [&[first], &value.to_le_bytes()[..width]].concat()
}

/// W-24, W-29
#[test]
fn every_truncation_of_every_header_is_refused() {
    for (kind, header) in headers() {
        for length in 0..header.len() {
            let empty_allowed = EMPTY_HEADER_ALLOWED.iter().any(|allowed| allowed.number() == kind);
            assert_eq!(agreed(kind, &header[..length]), length == 0 && empty_allowed, "{kind} at {length}");
        }
    }
}

/// W-24
#[test]
fn bytes_after_the_last_field_are_refused_and_counted() {
    for (kind, mut header) in headers().into_iter().filter(|(_, header)| !header.is_empty()) {
        for count in 1..=3 {
            header.push(0);
            match rewritten(kind, &header) {
                Err(DecodeError::TrailingBytes { count: found, .. }) => assert_eq!(found, count),
                other => panic!("{kind}: {other:?}"),
            }
            assert!(!agreed(kind, &header));
        }
    }
}

/// W-29
#[test]
fn an_empty_header_stands_for_no_extensions_where_there_are_no_other_fields() {
    for kind in Kind::ALL {
        assert_eq!(agreed(kind.number(), b""), EMPTY_HEADER_ALLOWED.contains(&kind), "{}", kind.name());
    }
    for kind in EMPTY_HEADER_ALLOWED {
        assert_eq!(NoFields::decode(kind, b"").unwrap(), NoFields::decode(kind, &[0]).unwrap());
    }
}

/// W-21
#[test]
fn integers_are_written_in_their_shortest_form() {
    let edges = [0, 1, 250, 251, 252, 255, 256, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, u64::MAX];
    for value in edges {
        let header = [variable(value), vec![0]].concat();
        assert_eq!(rewritten(Kind::Credit.number(), &header).unwrap(), header, "{value}");
        accepted(Kind::Credit, &header);
    }
    assert_eq!(variable(251), [0xfb, 0xfb, 0x00]);
    assert_eq!(variable(0x1_0000), [0xfc, 0, 0, 1, 0]);
}

/// W-22
#[test]
fn a_longer_form_is_read_as_far_as_it_fits_the_type() {
    for value in [0, 5, 250] {
        // A u64 takes every form and is written back in the shortest.
        for width in [2, 4, 8] {
            let header = [form(width, value), vec![0]].concat();
            accepted(Kind::Credit, &header);
            let shortest = [variable(value), vec![0]].concat();
            assert_eq!(rewritten(Kind::Credit.number(), &header).unwrap(), shortest);
        }
        // A u16 takes that of 2 bytes only.
        accepted(Kind::Query, &[form(2, value), vec![0]].concat());
        refused(Kind::Query, &[form(4, value), vec![0]].concat());
        refused(Kind::Query, &[form(8, value), vec![0]].concat());
        // A u32 takes those of 2 and 4 bytes.
        let hello = |frame_bytes_max: Vec<u8>| [vec![1, 1, 0], frame_bytes_max, vec![0, 0, 0]].concat();
        accepted(Kind::Hello, &hello(form(2, value)));
        accepted(Kind::Hello, &hello(form(4, value)));
        refused(Kind::Hello, &hello(form(8, value)));
    }
    // So do the count of a list and the length of a text.
    for width in [2, 4, 8] {
        accepted(Kind::Cancel, &form(width, 0));
        accepted(Kind::Query, &[vec![1], form(width, 1), vec![2], form(width, 1), vec![9]].concat());
        accepted(Kind::Failure, &[vec![10], form(width, 2), b"no".to_vec(), vec![0, 0, 0, 0]].concat());
    }
    for first in [0xfe, 0xff] {
        refused(Kind::Credit, &[vec![first], vec![0; 17]].concat());
        refused(Kind::Cancel, &[vec![first], vec![0; 16]].concat());
    }
}

/// W-23
#[test]
fn flags_are_0_or_1_and_text_is_utf_8() {
    let failure = |optional: u8, safe: u8| vec![20, 0, optional, safe, 7, 0];
    accepted(Kind::Failure, &failure(0, 0));
    accepted(Kind::Failure, &failure(0, 1));
    for wrong in [2, 0x80, 0xff] {
        refused(Kind::Failure, &failure(0, wrong));
        refused(Kind::Failure, &failure(wrong, 0));
    }
    for wrong in [&b"\xff"[..], b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"ok\x80"] {
        let length = u8::try_from(wrong.len()).unwrap();
        refused(Kind::Failure, &[&[20, length], wrong, &[0, 0, 0, 0]].concat());
    }
    accepted(Kind::Failure, &[&[20, 3], &b"\0\n\x7f"[..], &[0, 0, 0, 0]].concat());
}

/// W-25
#[test]
fn lengths_and_counts_that_lie_are_refused_before_room_is_made() {
    // A reservation for 2^60 elements would panic, one for 2^25 would take a gibibyte.
    for lie in [1 << 60, u64::MAX, u64::MAX / 2, 1 << 32, 1 << 25, 4096, 65] {
        let lie = variable(lie);
        refused(Kind::Work, &[&[0], &lie[..], &[0; 64]].concat());
        refused(Kind::Cancel, &[&lie[..], &[0; 64]].concat());
        refused(Kind::Work, &[&lie[..], &[0; 64]].concat());
        refused(Kind::Work, &[&[0, 1], &lie[..], &[0; 64]].concat());
        refused(Kind::Work, &[&[0, 1, 0], &lie[..], &[0; 64]].concat());
        refused(Kind::Failure, &[&[1], &lie[..], &[0; 64]].concat());
        refused(Kind::Query, &[&[1, 1, 2], &lie[..], &[0; 64]].concat());
    }
    let error = Work::decode(&[&[0], &variable(1 << 25)[..], &[0; 64]].concat()).unwrap_err().to_string();
    assert!(
        error.contains("at most 64 elements"),
        "refused by its count, not by running out of bytes: {error}"
    );
}

fn work<'a>(operation: &'a str, parameters: Vec<(&'a str, &'a str)>, extensions: Extensions<'a>) -> Vec<u8> {
    let work = Work {
        operation,
        parameters,
        sent_at: u64::MAX,
        deadline: None,
        priority: PRIORITY_INTERACTIVE,
        body_total: None,
        extensions,
    };
    written(Kind::Work, 0, 1, &work, b"").split_off(PREFIX_BYTES)
}

/// W-26, W-28
#[test]
fn bounds_hold_to_the_element_and_to_the_byte() {
    let check = |fits: Vec<u8>, too_long: Vec<u8>| {
        accepted(Kind::Work, &fits);
        refused(Kind::Work, &too_long);
    };
    let text = |length: usize| "é".repeat(length / 2) + &"x".repeat(length % 2);
    let none = Extensions::default;
    let name = limits::NAME_BYTES_MAX;
    check(work(&text(name), vec![], none()), work(&text(name + 1), vec![], none()));
    let key = |length| work("o", vec![(&text(length), "")], none());
    check(key(name), key(name + 1));
    let value = |length| work("o", vec![("k", &text(length))], none());
    check(value(limits::VALUE_BYTES_MAX), value(limits::VALUE_BYTES_MAX + 1));
    let parameters = |count| work("o", vec![("k", "v"); count], none());
    check(parameters(limits::PARAMETERS_MAX), parameters(limits::PARAMETERS_MAX + 1));
    let extensions = |count| work("o", vec![], Extensions(vec![(2, b"".as_slice()); count]));
    check(extensions(limits::EXTENSIONS_MAX), extensions(limits::EXTENSIONS_MAX + 1));

    let named = |first: &[u8], length: usize, last: &[u8]| {
        [first, &variable(length as u64), text(length).as_bytes(), last].concat()
    };
    for (kind, first, last, limit) in [
        (Kind::Hello, &[1, 1, 0, 0, 0][..], &[0][..], name),
        (Kind::Welcome, &[1, 0, 0, 0, 0, 0], &[0], name),
        (Kind::Failure, &[1], &[0, 0, 0, 0], limits::MESSAGE_BYTES_MAX),
    ] {
        accepted(kind, &named(first, limit, last));
        refused(kind, &named(first, limit + 1, last));
    }
}

/// W-11, W-26: many small fields cost a decoder more than they take on the wire, and are still within the limit.
#[test]
fn a_header_of_the_greatest_length_is_read() {
    let length = usize::from(limits::HEADER_BYTES_MAX);
    let long = "v".repeat(limits::VALUE_BYTES_MAX);
    let content = vec![7; length];
    let header = |content_bytes: usize| {
        let mut parameters = vec![("k", long.as_str()); 3];
        parameters.resize(limits::PARAMETERS_MAX, ("", ""));
        let extensions = vec![(2, &content[..content_bytes])];
        work("o", parameters, Extensions(extensions))
    };
    let rest = length - (header(1000).len() - 1000);
    let full = header(rest);
    assert_eq!(full.len(), length);
    accepted(Kind::Work, &full);
}

/// W-82, W-85
#[test]
fn odd_extensions_must_be_understood_and_even_ones_need_not() {
    for number in 0..=u16::MAX {
        let even = Extensions(vec![(2, b"".as_slice()), (number, b"content")]);
        assert_eq!(even.must_understand(), (number % 2 == 1).then_some(number));
    }
    let reserved = |number| Extensions(vec![(number, b"".as_slice())]).must_understand();
    assert_eq!((reserved(1), reserved(2), reserved(4)), (Some(1), None, None));
    assert_eq!(Extensions::default().must_understand(), None);
    // They are found in every kind of header, at its end.
    for (kind, header) in headers() {
        let fields = read_header(kind, &header).unwrap();
        let Some(field) = fields.last().filter(|field| field.name == "extensions count") else { continue };
        let fields = &header[..header.len() - field.bytes.len()];
        assert!(agreed(kind, &[fields, &[2, 2, 1, b'a', 0xfb, 0xff, 0xff, 0]].concat()));
    }
}

fn prefix_of(kind: u8) -> Prefix {
    Prefix { kind, flags: 0, header_len: 1, body_len: 0, id: 0 }
}

/// W-11, W-12, W-13
#[test]
fn kinds_are_known_skipped_or_violations() {
    for kind in 0..=u8::MAX {
        let id = u64::from(matches!(kind, 3 | 5 | 11 | 12));
        let prefix = Prefix { id, ..prefix_of(kind) };
        match kind {
            1..=15 => {
                assert!(matches!(prefix.check(), Ok(KindNumber::Known(known)) if known.number() == kind))
            }
            128.. => {
                let odd = Prefix { flags: 0xff, body_len: u32::MAX, id: u64::MAX, ..prefix };
                assert_eq!(odd.check(), Ok(KindNumber::Skip));
            }
            _ => assert_eq!(prefix.check(), Err(Violation::UnknownKind(kind))),
        }
        let too_long = Prefix { header_len: limits::HEADER_BYTES_MAX + 1, ..prefix };
        assert!(matches!(too_long.check(), Err(Violation::HeaderTooLong { .. })));
        let longest = Prefix { header_len: limits::HEADER_BYTES_MAX, ..prefix };
        assert_eq!(longest.check(), prefix.check());
    }
}

/// W-14
#[test]
fn only_more_is_a_flag_and_only_where_bodies_come_in_parts() {
    for kind in Kind::ALL {
        for flags in 1..=u8::MAX {
            let prefix = Prefix { flags, id: 1, ..prefix_of(kind.number()) };
            let allowed = flags == 1 && matches!(kind, Kind::Work | Kind::Data | Kind::Reply);
            let undefined = matches!(prefix.check(), Err(Violation::UndefinedFlags { .. }));
            assert_eq!(undefined, !allowed, "{} {flags}", kind.name());
        }
    }
}

/// W-15
#[test]
fn bodies_stand_only_where_they_are_defined() {
    for kind in Kind::ALL {
        let limit = match kind {
            Kind::Work | Kind::Data | Kind::Reply | Kind::Info => u32::MAX,
            Kind::Ping | Kind::Pong => 64,
            _ => 0,
        };
        let refused = |body_len| {
            let prefix = Prefix { body_len, id: 1, ..prefix_of(kind.number()) };
            matches!(prefix.check(), Err(Violation::BodyNotAllowed { .. }))
        };
        assert!(!refused(limit), "{}", kind.name());
        if let Some(more) = limit.checked_add(1) {
            assert!(refused(more) && refused(u32::MAX), "{}", kind.name());
        }
    }
}

/// W-16, W-17, W-18
#[test]
fn ids_speak_of_the_connection_of_a_request_or_of_either() {
    for kind in Kind::ALL {
        let wrong = |id| {
            let prefix = Prefix { id, ..prefix_of(kind.number()) };
            matches!(prefix.check(), Err(Violation::WrongId { .. }))
        };
        let found = [0, 1, 1 << 40, u64::MAX - 1, u64::MAX].map(wrong);
        let expected = match kind {
            Kind::Hello | Kind::Welcome | Kind::GoAway | Kind::Close | Kind::Closed => {
                [false, true, true, true, true]
            }
            Kind::Work | Kind::Reply | Kind::Query | Kind::Info => [true, false, false, false, true],
            _ => [false; 5],
        };
        assert_eq!(found, expected, "{}", kind.name());
    }
}

/// W-10
#[test]
fn any_sixteen_bytes_are_a_prefix_and_stay_the_same() {
    let mut random = fastrand::Rng::with_seed(0x0057_494e_444c_4153);
    for _ in 0..10_000 {
        let mut bytes = [0; PREFIX_BYTES];
        random.fill(&mut bytes);
        let prefix = Prefix::from_bytes(bytes);
        assert_eq!(prefix.to_bytes(), bytes);
        assert_eq!(u64::from_le_bytes(bytes[8..].try_into().unwrap()), prefix.id);
        assert_eq!(Prefix::peek(&bytes), Some(prefix));
        assert_eq!(Prefix::peek(&bytes[..PREFIX_BYTES - 1]), None);
        let _ = prefix.check();
    }
}

/// W-24, W-25, W-26
#[test]
fn both_readings_agree_on_random_bytes() {
    let mut random = fastrand::Rng::with_seed(7410);
    // Small numbers are likely to be lengths and counts that hold; the rest is anything.
    let byte = |random: &mut fastrand::Rng| match random.u8(..4) {
        0 => random.u8(..),
        1 => random.u8(0xf8..),
        _ => random.u8(..4),
    };
    for kind in Kind::ALL {
        let mut accepted = 0;
        for _ in 0..200_000 {
            let length = random.usize(..24);
            let header: Vec<u8> = (0..length).map(|_| byte(&mut random)).collect();
            accepted += u32::from(agreed(kind.number(), &header));
        }
        assert!(
            accepted > 0,
            "no random {} header was ever good: the bytes are not random enough",
            kind.name()
        );
    }
}

/// W-22, W-24, W-25, W-26
#[test]
fn both_readings_agree_on_damaged_headers() {
    let mut random = fastrand::Rng::with_seed(7411);
    for (kind, header) in headers().into_iter().filter(|(_, header)| !header.is_empty()) {
        for _ in 0..20_000 {
            let mut damaged = header.clone();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..damaged.len());
                match random.u8(..4) {
                    0 => damaged[place] ^= 1 << random.u8(..8),
                    1 => damaged[place] = random.u8(..),
                    2 => damaged.insert(place, random.u8(..)),
                    _ if damaged.len() > 1 => drop(damaged.remove(place)),
                    _ => {}
                }
            }
            agreed(kind, &damaged);
        }
    }
}
