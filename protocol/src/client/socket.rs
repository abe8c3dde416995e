//! An asynchronous connection, opened and greeted.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::address::Address;
use super::decoder::Decoder;
use super::error::CallError;
use super::options::Options;
use super::outgoing::Outgoing;
use super::request::Terms;
use super::session::{Event, interpret};

pub(super) type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(super) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection on which the daemon has said Welcome.
pub(super) struct Greeted {
    pub(super) reader: Reader,
    pub(super) writer: Writer,
    pub(super) decoder: Decoder,
    pub(super) terms: Terms,
}

/// Connects and exchanges Hello and Welcome within `patience`.
///
/// Cancel safety: dropping the future closes the connection; nothing else was begun.
///
/// # Errors
///
/// `Unreachable` when nobody answers, `Failure` when the daemon refuses the connection, `Protocol` when the peer is
/// not a Windlass daemon.
pub(super) async fn greet(
    address: &Address,
    options: &Options,
    patience: Duration,
) -> Result<Greeted, CallError> {
    match tokio::time::timeout(patience, connect_and_greet(address, options)).await {
        Ok(result) => result,
        Err(_) => Err(CallError::Unreachable {
            address: address.clone(),
            reason: format!("no Welcome within {patience:.1?}"),
        }),
    }
}

async fn connect_and_greet(address: &Address, options: &Options) -> Result<Greeted, CallError> {
    let unreachable = |error: io::Error| unreachable(address, &error);
    let (mut reader, mut writer) = connect(address).await.map_err(unreachable)?;
    let mut opening = Outgoing::opening(options);
    // A daemon that refuses at once may close before it reads; its reason is worth more than the error.
    let written = writer.write_all(opening.raw()).await;
    let mut decoder = Decoder::new(options.frame_bytes_announced());
    loop {
        if let Some(terms) = welcome(&mut decoder, address)? {
            return Ok(Greeted { reader, writer, decoder, terms });
        }
        let read = reader.read_buf(decoder.room()).await.map_err(unreachable)?;
        if read == 0 {
            return Err(match written {
                Err(error) => unreachable(error),
                Ok(()) => ended_early(address),
            });
        }
    }
}

async fn connect(address: &Address) -> io::Result<(Reader, Writer)> {
    match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((host.as_str(), *port)).await?;
            stream.set_nodelay(true)?;
            let (reader, writer) = stream.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Address::Unix(path) => {
            let (reader, writer) = UnixStream::connect(path).await?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
    }
}

/// Reads the daemon's first frame, or `None` until it is complete.
pub(super) fn welcome(decoder: &mut Decoder, address: &Address) -> Result<Option<Terms>, CallError> {
    let protocol = |reason| CallError::Protocol { address: address.clone(), reason };
    loop {
        let Some(frame) = decoder.next().map_err(protocol)? else { return Ok(None) };
        let kind = frame.kind.name();
        match interpret(frame).map_err(protocol)? {
            Event::Welcome(terms) => return Ok(Some(terms)),
            Event::Broken(failure) => return Err(CallError::Failure(failure)),
            // A daemon that drains may say so before anything else; its reason or the end follows.
            Event::GoAway { .. } => {}
            _ => return Err(protocol(format!("a {kind} frame before its Welcome"))),
        }
    }
}

pub(super) fn unreachable(address: &Address, error: &io::Error) -> CallError {
    CallError::Unreachable { address: address.clone(), reason: error.to_string() }
}

pub(super) fn ended_early(address: &Address) -> CallError {
    CallError::Unreachable {
        address: address.clone(),
        reason: "the connection ended before the daemon's Welcome".to_owned(),
    }
}
