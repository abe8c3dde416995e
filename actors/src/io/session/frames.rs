//! Every frame but Work: the greeting, questions, cancels, the goodbye.

use windlass_protocol::limits::FRAME_BYTES_MIN;
use windlass_protocol::{
    Close, Credit, Extensions, FailureCode, Header, Hello, Kind, NoFields, PREFACE, PREFIX_BYTES, Query,
    SUBJECT_CATALOGUE, SUBJECT_STATUS, VERSION, Welcome,
};

use super::{REPLY_HEAD_BYTES, Session, Stage, Turn};
use crate::dispatch::Failure;
use crate::io::inbound::Frame;
use crate::io::inflight::Place;
use crate::telemetry::{catalogue_json, status_json};

impl Session {
    /// The peer's first bytes are the preface.
    pub(crate) fn preface(&mut self) {
        self.heard_preface = true;
    }

    /// Any frame but Work.
    pub(crate) fn frame(&mut self, turn: &mut Turn, frame: Frame<'_>) {
        let Frame { kind, prefix, header, body } = frame;
        if self.stage == Stage::Hello {
            match kind {
                Kind::Hello => self.hello(header),
                _ => self.violation(&format!("the first frame is a {}, not a Hello", kind.name())),
            }
            return;
        }
        let limit = self.world.frame_bytes_max();
        if prefix.frame_bytes() > u64::from(limit) {
            let found = prefix.frame_bytes();
            return self.violation(&format!(
                "a {} frame of {found} bytes is larger than frame_bytes_max, {limit}",
                kind.name()
            ));
        }
        match kind {
            Kind::Ping => self.no_fields(kind, header, |session| {
                session.outbox.push_frame(Kind::Pong, prefix.id, &NoFields::default(), body);
            }),
            Kind::Cancel => self.no_fields(kind, header, |session| session.cancel(prefix.id)),
            // Of ids that are not open, as all are without streaming.
            Kind::Data | Kind::Pong => self.no_fields(kind, header, |_| {}),
            Kind::Credit => match Credit::decode(header) {
                Ok(credit) => self.understood(kind, &credit.extensions),
                Err(error) => self.malformed(&error),
            },
            Kind::Query => self.query(turn, prefix.id, header),
            Kind::Close => self.close(header),
            Kind::Hello => self.violation("a second Hello"),
            Kind::Work
            | Kind::Welcome
            | Kind::Reply
            | Kind::Failure
            | Kind::Info
            | Kind::GoAway
            | Kind::Closed => self.violation(&format!("a {} frame is the daemon's to send", kind.name())),
        }
    }

    fn hello(&mut self, header: &[u8]) {
        let hello = match Hello::decode(header) {
            Ok(hello) => hello,
            Err(error) => return self.malformed(&error),
        };
        if !(hello.version_min..=hello.version_max).contains(&VERSION) {
            let message = format!(
                "this daemon speaks version {VERSION} alone; the client offers {} to {}",
                hello.version_min, hello.version_max
            );
            return self.leave(FailureCode::UNSUPPORTED_VERSION, &message);
        }
        if hello.frame_bytes_max < FRAME_BYTES_MIN {
            let found = hello.frame_bytes_max;
            return self
                .violation(&format!("frame_bytes_max of {found} is below the least, {FRAME_BYTES_MIN}"));
        }
        if let Some(number) = hello.extensions.must_understand() {
            return self.not_understood(Kind::Hello, number);
        }
        let settings = self.world.settings.load();
        self.client_frame_bytes_max = hello.frame_bytes_max;
        self.output_bytes_max = u64::from(hello.frame_bytes_max) - PREFIX_BYTES as u64 - REPLY_HEAD_BYTES;
        tracing::debug!(
            connection = self.number,
            client = %hello.client.escape_debug(),
            "connection opened"
        );
        let welcome = Welcome {
            version: VERSION,
            features: 0,
            frame_bytes_max: self.world.frame_bytes_max(),
            window: 0,
            body_bytes_max: settings.limits.body_bytes_max,
            in_flight_max: settings.limits.in_flight_per_connection.get(),
            server: &self.world.server,
            extensions: Extensions::default(),
        };
        self.outbox.push_raw(&PREFACE);
        self.outbox.push_frame(Kind::Welcome, 0, &welcome, &[]);
        self.said_preface = true;
        self.stage = Stage::Open;
    }

    fn cancel(&mut self, id: u64) {
        match self.inflight.get(id) {
            // What runs is stopped at its next check; then its worker answers.
            Some(Place::There(crossed)) if !crossed.stop.raise_before_start() => {}
            Some(Place::There(_)) => {
                self.answer_if_open(id, &Failure::abandoned());
                // What it holds is held until a worker comes across it.
                self.world.workers.wake();
            }
            Some(Place::Here) => {
                self.held.retain(|held| held.waiting.id() != id);
                self.answer_if_open(id, &Failure::abandoned());
            }
            None => {}
        }
    }

    fn query(&mut self, turn: &mut Turn, id: u64, header: &[u8]) {
        let query = match Query::decode(header) {
            Ok(query) => query,
            Err(error) => return self.malformed(&error),
        };
        if self.stage == Stage::Closing {
            return self.violation("a Query after Close");
        }
        let unsupported = |message: String| Failure::refused(FailureCode::UNSUPPORTED, message);
        if let Some(number) = query.extensions.must_understand() {
            let message = format!("extension {number} must be understood, and this daemon does not");
            return self.write_failure(id, &unsupported(message));
        }
        turn.n_infos = turn.n_infos.saturating_add(1);
        // The requests before the question are in its answer.
        self.settle(turn);
        let json = match query.subject {
            SUBJECT_CATALOGUE => catalogue_json(&self.world),
            SUBJECT_STATUS => status_json(&self.world),
            subject => {
                let message = format!("no subject {subject}; there are 1, the catalogue, and 2, the status");
                return self.write_failure(id, &unsupported(message));
            }
        };
        if json.len() as u64 > u64::from(self.client_frame_bytes_max) - PREFIX_BYTES as u64 {
            let message =
                format!("the answer of {} bytes is larger than the client's frame_bytes_max", json.len());
            return self.write_failure(id, &Failure::refused(FailureCode::TOO_LARGE, message));
        }
        self.outbox.push_frame(Kind::Info, id, &NoFields::default(), &json);
    }

    fn close(&mut self, header: &[u8]) {
        match Close::decode(header) {
            Ok(_) if self.stage == Stage::Closing => self.violation("a second Close"),
            Ok(close) => match close.extensions.must_understand() {
                Some(number) => self.not_understood(Kind::Close, number),
                None => self.stage = Stage::Closing,
            },
            Err(error) => self.malformed(&error),
        }
    }

    fn no_fields(&mut self, kind: Kind, header: &[u8], then: impl FnOnce(&mut Self)) {
        match NoFields::decode(kind, header) {
            Ok(fields) => match fields.extensions.must_understand() {
                Some(number) => self.not_understood(kind, number),
                None => then(self),
            },
            Err(error) => self.malformed(&error),
        }
    }

    fn understood(&mut self, kind: Kind, extensions: &Extensions<'_>) {
        if let Some(number) = extensions.must_understand() {
            self.not_understood(kind, number);
        }
    }
}
