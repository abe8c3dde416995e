//! The load generator against real and imitated peers: requests are understood, answers are told apart. No time is
//! looked at.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use windlass_protocol::{
    Extensions, Header, Kind as Frame, PREFACE, PREFIX_BYTES, Prefix, Reply, Welcome, Work as Asked,
    append_frame,
};

use super::protocol::{Answer, Kind, gearman};
use super::*;
use crate::serve::{Answering, Handlers, Niceness, gearman_work_on, pool, router, serve_frames_tcp};

const SHAPE: Shape = Shape {
    connections: 3,
    in_flight: 4,
    rotate: false,
    times: false,
    warm_up: Duration::ZERO,
    duration: Duration::from_millis(20),
};

/// A small body, which is copied, and a large one, which is not and arrives in parts.
const LENGTHS: [usize; 2] = [64, 300_000];

/// Every way to drive a peer, none of which may lose a request or misread an answer.
fn drive(address: &Address, protocol: impl Fn(usize) -> Box<dyn Protocol>) {
    for length in LENGTHS {
        let protocol = protocol(length);
        for rotate in [false, true] {
            let tally = closed_loop(&*protocol, address, Shape { rotate, ..SHAPE }, Some(&|| {})).unwrap();
            assert!(
                tally.replies + tally.late > 0 && tally.lost == 0 && tally.turned_away == 0,
                "{length}: {tally:?}"
            );
        }
        let pace = Pace { connections: 2, per_second: 500, duration: Duration::from_millis(20) };
        assert_eq!(paced(&*protocol, address, pace).unwrap().len(), 10, "{length}");
        assert_eq!(hold(&*protocol, address, 5).unwrap().len(), 5, "{length}");
    }
}

/// An imitated peer that has `converse` for every connection.
fn imitate(converse: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static) -> Address {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let converse = Arc::new(converse);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, converse) = (stream.unwrap(), Arc::clone(&converse));
            // It ends when the load generator closes its end.
            thread::spawn(move || drop(converse(&mut stream)));
        }
    });
    address
}

/// A real peer on a runtime of its own.
fn serve<F: Future<Output = std::io::Result<()>> + Send + 'static>(
    serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
) -> Address {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    listener.set_nonblocking(true).unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { serve(tokio::net::TcpListener::from_std(listener).unwrap()).await })
    });
    address
}

#[test]
fn axum_answers_every_request_with_every_handler() {
    for handlers in [Handlers::Inline, Handlers::Blocking, Handlers::Rayon, Handlers::RayonNice] {
        let address = serve(move |listener| async move { axum::serve(listener, router(handlers)).await });
        drive(&address, |length| Box::new(Http::post("/echo", noise(length))));
        let ended = |protocol: &Http| closed_loop(protocol, &address, SHAPE, Some(&|| {}));
        assert_eq!(ended(&Http::get("/ping")).unwrap().lost, 0);
        assert!(ended(&Http::post("/nothing", noise(1))).is_err(), "a request that is refused is no reply");
    }
}

#[test]
fn frames_are_echoed_or_forgotten() {
    for answering in [Answering::Echo, Answering::Nothing] {
        let address =
            serve(move |listener| serve_frames_tcp(listener, answering, Arc::new(pool(Niceness::Own))));
        drive(&address, |length| Box::new(Frames::echo(noise(length))));
    }
}

#[test]
fn windlass_frames_are_understood() {
    let address = imitate(|stream| {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface)?;
        assert_eq!(preface, PREFACE);
        stream.write_all(&PREFACE)?;
        let mut last_id = 0;
        loop {
            let mut prefix = [0; PREFIX_BYTES];
            stream.read_exact(&mut prefix)?;
            let prefix = Prefix::from_bytes(prefix);
            prefix.check().unwrap();
            let mut header = vec![0; prefix.header_len.into()];
            stream.read_exact(&mut header)?;
            let mut body = vec![0; prefix.body_len as usize];
            stream.read_exact(&mut body)?;
            let mut out = Vec::new();
            if prefix.kind == Frame::Hello.number() {
                append_frame(&mut out, Frame::Welcome, 0, &welcome(), b"");
            } else {
                assert!(prefix.id > last_id, "ids rise");
                last_id = prefix.id;
                assert_eq!(Asked::decode(&header).unwrap().operation, "echo");
                let times = Reply {
                    queue_time: 1,
                    service_time: 1,
                    load: 0,
                    body_total: None,
                    extensions: Extensions::default(),
                };
                append_frame(&mut out, Frame::Reply, prefix.id, &times, &body);
            }
            stream.write_all(&out)?;
        }
    });
    drive(&address, |length| Box::new(Native::work("echo", &[("key", "value")], noise(length))));
}

fn welcome() -> Welcome<'static> {
    Welcome {
        version: 1,
        features: 0,
        frame_bytes_max: 1 << 20,
        window: 0,
        body_bytes_max: 1 << 20,
        in_flight_max: 64,
        server: "imitated",
        extensions: Extensions::default(),
    }
}

#[test]
fn redis_commands_are_well_formed() {
    let address = imitate(|stream| {
        loop {
            let mut command = Vec::new();
            for _ in 0..2 {
                command.extend(line(stream)?);
            }
            assert_eq!(command, b"*2\r\n$4\r\n");
            assert_eq!(line(stream)?, b"ECHO\r\n");
            let length = line(stream)?;
            let digits = std::str::from_utf8(&length[1..]).unwrap().trim();
            let mut body = vec![0; digits.parse::<usize>().unwrap() + 2];
            stream.read_exact(&mut body)?;
            assert!(body.ends_with(b"\r\n"));
            stream.write_all(&[length, body].concat())?;
        }
    });
    drive(&address, |length| Box::new(Resp::echo(noise(length))));
}

fn line(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        line.push(byte[0]);
    }
    Ok(line)
}

/// A server with a worker for each client: what one submits, the other is assigned.
#[test]
fn gearman_jobs_go_to_the_worker_and_back() {
    let address = imitate(|client| {
        let workers = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let worker = TcpStream::connect(workers.local_addr()?)?;
        thread::spawn(move || gearman_work_on(worker, &["echo".to_owned()]));
        let (mut worker, _) = workers.accept()?;
        let (packet, function) = read_packet(&mut worker)?;
        assert_eq!((packet, function.as_slice()), (gearman::packet::CAN_DO, &b"echo"[..]));
        loop {
            let (packet, submitted) = read_packet(client)?;
            assert_eq!(packet, gearman::packet::SUBMIT_JOB);
            let input = submitted.strip_prefix(b"echo\0\0").unwrap();
            answer(client, gearman::packet::JOB_CREATED, &[b"handle"])?;
            assert_eq!(read_packet(&mut worker)?.0, gearman::packet::GRAB_JOB);
            answer(&mut worker, gearman::packet::JOB_ASSIGN, &[b"handle\0echo\0", input])?;
            let (packet, result) = read_packet(&mut worker)?;
            assert_eq!(packet, gearman::packet::WORK_COMPLETE);
            assert_eq!(result.strip_prefix(b"handle\0").unwrap(), input);
            answer(client, packet, &[&result])?;
        }
    });
    drive(&address, |length| Box::new(Gearman::job("echo", noise(length))));
}

fn read_packet(stream: &mut TcpStream) -> std::io::Result<(u32, Vec<u8>)> {
    let mut head = [0; gearman::HEAD_BYTES];
    stream.read_exact(&mut head)?;
    let (packet, length) = gearman::read_head(&head).unwrap();
    let mut body = vec![0; length - gearman::HEAD_BYTES];
    stream.read_exact(&mut body)?;
    Ok((packet, body))
}

fn answer(stream: &mut TcpStream, packet: u32, parts: &[&[u8]]) -> std::io::Result<()> {
    let mut out = Vec::new();
    gearman::append_head(&mut out, packet, parts.iter().map(|part| part.len()).sum());
    out[..4].copy_from_slice(b"\0RES");
    stream.write_all(&[out, parts.concat()].concat())
}

/// However the bytes of an answer are cut, it is told apart at the same place.
#[test]
fn an_answer_is_seen_as_soon_as_its_length_is_known_and_not_before() {
    let mut pong = Vec::new();
    append_frame(&mut pong, Frame::Pong, 3, &windlass_protocol::NoFields::default(), b"four");
    let mut done = Vec::new();
    gearman::append_head(&mut done, gearman::packet::WORK_COMPLETE, 9);
    done.extend_from_slice(b"handle\0ok");
    let cases: [(&dyn Protocol, &[u8]); 4] = [
        (&Native::ping(), &pong),
        (&Resp::echo(noise(4)), b"$4\r\nfour\r\n"),
        (&Gearman::echo(noise(4)), &done),
        (&Http::get("/"), b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx: y\r\n\r\nfour"),
    ];
    for (protocol, bytes) in cases {
        let whole = Answer { bytes: bytes.len(), kind: Kind::Reply };
        let seen: Vec<Option<Answer>> =
            (1..=bytes.len()).map(|length| protocol.answer(&bytes[..length]).unwrap()).collect();
        let first = seen.iter().position(Option::is_some).unwrap();
        assert!(seen[first..].iter().all(|answer| *answer == Some(whole)), "{seen:?}");
    }
    assert!(Http::get("/").answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    let refused = Http::get("/").answer(b"HTTP/1.1 503 No\r\n\r\n").unwrap().unwrap();
    assert_eq!((refused.bytes, refused.kind), (19, Kind::Refused));
}
