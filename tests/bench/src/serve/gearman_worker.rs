//! A worker of gearman: one connection, one job at a time, the result and the wish for another in one write.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::load::gearman::{HEAD_BYTES, append_head, packet, read_head};
use crate::work::Work;

/// Works for the server on this port of loopback until it ends.
pub(crate) fn work(port: u16, functions: &[String]) -> io::Result<()> {
    work_on(TcpStream::connect(("127.0.0.1", port))?, functions)
}

pub(crate) fn work_on(mut stream: TcpStream, functions: &[String]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = Vec::new();
    for function in functions {
        append(&mut out, packet::CAN_DO, &[function.as_bytes()]);
    }
    append(&mut out, packet::GRAB_JOB, &[]);
    let mut body = Vec::new();
    loop {
        stream.write_all(&out)?;
        out.clear();
        let mut head = [0; HEAD_BYTES];
        stream.read_exact(&mut head)?;
        let (packet, length) = read_head(&head).expect("a head has arrived");
        body.resize(length - HEAD_BYTES, 0);
        stream.read_exact(&mut body)?;
        match packet {
            packet::JOB_ASSIGN => {
                let mut parts = body.splitn(3, |byte| *byte == 0);
                let mut part = || parts.next().ok_or(io::ErrorKind::InvalidData);
                let (handle, function, input) = (part()?, part()?, part()?);
                let work = std::str::from_utf8(function).ok().and_then(Work::parse);
                match work {
                    Some(work) => {
                        append(&mut out, packet::WORK_COMPLETE, &[handle, b"\0", &work.run(input)]);
                    }
                    None => append(&mut out, packet::WORK_FAIL, &[handle]),
                }
                append(&mut out, packet::GRAB_JOB, &[]);
            }
            packet::NO_JOB => append(&mut out, packet::PRE_SLEEP, &[]),
            packet::NOOP => append(&mut out, packet::GRAB_JOB, &[]),
            _ => {}
        }
    }
}

fn append(out: &mut Vec<u8>, packet: u32, parts: &[&[u8]]) {
    append_head(out, packet, parts.iter().map(|part| part.len()).sum());
    for part in parts {
        out.extend_from_slice(part);
    }
}
