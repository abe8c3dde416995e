//! Where events go: a terminal, a pipe, or the journal. Nobody who logs waits for a reader of
//! lines; what goes to the journal is sent by the thread that logs it.

use std::io::{self, IsTerminal, Write};
use std::sync::mpsc;
use std::time::Duration;

use tracing::Subscriber;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{Log, LogFormat};

/// Lines that wait for a slow reader of standard error; beyond them lines are dropped and counted. Some 200 bytes
/// each, so 3 MB at worst.
const LINES_MAX: usize = 16_384;

/// Longest wait at the end for lines that are not written yet.
const FLUSH_MAX: Duration = Duration::from_secs(2);

/// The name of the thread that writes.
const THREAD: &str = "windlass-log";

/// Changes the level and counts what was dropped, while the process runs.
#[derive(Clone)]
pub struct LogHandle {
    filter: reload::Handle<EnvFilter, Registry>,
    dropped: Option<ErrorCounter>,
}

/// Writes what is left when it is dropped, for at most two seconds. Held until the process ends.
#[must_use = "lines that are not written yet are lost without it"]
pub struct LogGuard(Option<WorkerGuard>);

/// Why logging cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The journal was asked for by name and is not there.
    #[error("log.format = \"journald\", but the journal cannot be reached: {0}")]
    Journal(#[source] io::Error),
    /// Somebody logs already.
    #[error("logging was begun twice")]
    Twice,
    /// The level does not read; the configuration check excludes it.
    #[error("log level: {0}")]
    Level(String),
}

/// Begins logging for the whole process, once. `journal_stream` is the variable `JOURNAL_STREAM` of the environment.
///
/// # Errors
///
/// When the journal was asked for by name and cannot be reached, or logging has begun before.
pub fn init(log: &Log, journal_stream: Option<&str>) -> Result<(LogHandle, LogGuard), LogError> {
    let filter = filter(&log.level).map_err(LogError::Level)?;
    let (filter, handle) = reload::Layer::new(filter);
    let journal = match log.format {
        LogFormat::Journald => Some(journal().map_err(LogError::Journal)?),
        // A sandbox may hide the journal's socket; its stream, which standard error is, still takes lines.
        LogFormat::Auto if leads_to_journal(journal_stream, io::stderr()) => journal().ok(),
        _ => None,
    };
    let (layer, dropped, guard) = match journal {
        Some(journal) => (journal.boxed(), None, LogGuard(None)),
        None => {
            let (writer, guard) = nonblocking(io::stderr());
            let dropped = writer.error_counter();
            (lines(log.format, io::stderr().is_terminal(), writer), Some(dropped), LogGuard(Some(guard)))
        }
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Twice)?;
    Ok((LogHandle { filter: handle, dropped }, guard))
}

impl LogHandle {
    /// Takes another level, or other directives, from now on.
    ///
    /// # Errors
    ///
    /// When the text does not read, or the subscriber is gone; then everything stays as it was.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        let filter = filter(level).map_err(LogError::Level)?;
        self.filter.reload(filter).map_err(|error| LogError::Level(error.to_string()))
    }

    /// The level or directives in force; `None` when the subscriber is gone.
    pub fn level(&self) -> Option<String> {
        self.filter.with_current(ToString::to_string).ok()
    }

    /// Lines that were dropped because nobody read standard error fast enough.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines)
    }
}

#[cfg(test)]
impl LogHandle {
    /// A handle to no subscriber, for tests of what needs one.
    pub(crate) fn detached() -> Self {
        Self { filter: reload::Layer::new(EnvFilter::default()).1, dropped: None }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        let Some(guard) = self.0.take() else { return };
        // The library's guard complains on standard output when nobody reads, and that may block: another thread
        // waits for it, and this one waits for that thread only so long.
        let (done, written) = mpsc::channel();
        let flush = std::thread::Builder::new().name("windlass-flush".to_owned()).spawn(move || {
            drop(guard);
            // Nobody listens any more when this took too long.
            let _ = done.send(());
        });
        if flush.is_ok() {
            let _ = written.recv_timeout(FLUSH_MAX);
        }
    }
}

/// Whether a text is a level or directives by target.
///
/// # Errors
///
/// What is wrong with it.
pub fn check_level(text: &str) -> Result<(), String> {
    filter(text).map(drop)
}

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

fn filter(text: &str) -> Result<EnvFilter, String> {
    // The library takes an unknown word for the name of a target, and would then log next to nothing.
    for directive in text.split(',').map(str::trim) {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !LEVELS.contains(&level) {
            return Err(format!(
                "'{}' is not a level; the levels are {}",
                level.escape_debug(),
                LEVELS.join(", ")
            ));
        }
    }
    EnvFilter::builder().parse(text).map_err(|error| error.to_string())
}

fn nonblocking(writer: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .buffered_lines_limit(LINES_MAX)
        .lossy(true)
        .thread_name(THREAD)
        .finish(writer)
}

/// Lines for people or, on request, for machines. Times are UTC, RFC 3339.
fn lines<S>(format: LogFormat, is_terminal: bool, writer: NonBlocking) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    match format {
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(writer).boxed()
        }
        // On a terminal the library decides, which heeds NO_COLOR.
        _ if is_terminal => fmt::layer().with_writer(writer).boxed(),
        _ => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
    }
}

fn journal() -> io::Result<tracing_journald::Layer> {
    let layer = tracing_journald::layer()?;
    // Without a prefix the fields are searchable as OPERATION= and CONNECTION=. Ordinary events are informational;
    // the library's own choice would show every one of them as a notice.
    Ok(layer.with_field_prefix(None).with_syslog_identifier("windlassd".to_owned()).with_priority_mappings(
        PriorityMappings {
            info: Priority::Informational,
            debug: Priority::Debug,
            trace: Priority::Debug,
            ..PriorityMappings::new()
        },
    ))
}

/// Whether a descriptor is the stream that the service manager connected to the journal: `JOURNAL_STREAM` holds its
/// device and inode (systemd.exec(5)), and is inherited by children whose standard error may lead elsewhere.
fn leads_to_journal(journal_stream: Option<&str>, descriptor: impl std::os::fd::AsFd) -> bool {
    let numbers = journal_stream.and_then(|text| text.split_once(':'));
    let Some((device, inode)) = numbers else { return false };
    rustix::fs::fstat(descriptor)
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, event: impl FnOnce()) -> String {
        let memory = Memory::default();
        let (writer, guard) = nonblocking(memory.clone());
        let subscriber = tracing_subscriber::registry().with(lines(format, false, writer));
        tracing::subscriber::with_default(subscriber, event);
        drop(LogGuard(Some(guard)));
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn levels_and_directives_are_taken_and_other_words_are_not() {
        for good in LEVELS.into_iter().chain(["info,windlass_actors=debug", "windlass_daemon::config=trace"])
        {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "verbose", "INFO!", "info,", "info,windlass_actors", "windlass_actors=loud", "3"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn json_is_one_object_per_line_with_the_time_in_utc() {
        let text = logged(LogFormat::Json, || {
            tracing::info!(operation = "hash", "first\nevent");
            tracing::warn!("second event");
        });
        let events: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 2);
        assert_eq!(
            (&events[0]["operation"], &events[0]["message"]),
            (&"hash".into(), &"first\nevent".into())
        );
        assert_eq!(events[1]["level"], "WARN");
        let time = events[0]["timestamp"].as_str().unwrap();
        assert!(time.contains('T') && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn pretty_without_a_terminal_is_a_line_without_colours() {
        let text = logged(LogFormat::Auto, || tracing::info!(operation = "hash", "an event"));
        assert_eq!(text.lines().count(), 1);
        assert!(text.contains("an event") && text.contains("operation=\"hash\""), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_handle_changes_the_level_and_keeps_the_old_one_when_the_new_does_not_read() {
        let (filter, handle) = reload::Layer::new(filter("warn").unwrap());
        let handle = LogHandle { filter: handle, dropped: None };
        let subscriber = tracing_subscriber::registry().with(filter);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            handle.set_level("debug").unwrap();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            assert!(handle.set_level("loud").is_err());
            assert!(tracing::enabled!(tracing::Level::DEBUG));
        });
    }

    #[test]
    fn a_reader_that_never_reads_costs_lines_and_not_time() {
        struct Stuck(mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (release, gate) = mpsc::channel();
        let (mut writer, guard) = nonblocking(Stuck(gate));
        let dropped = writer.error_counter();
        for _ in 0..LINES_MAX + 10 {
            writer.write_all(b"line\n").unwrap();
        }
        assert!(dropped.dropped_lines() >= 9);
        let begin = std::time::Instant::now();
        drop(LogGuard(Some(guard)));
        assert!(begin.elapsed() < FLUSH_MAX * 2);
        drop(release);
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = rustix::fs::fstat(&file).unwrap();
        let here = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(leads_to_journal(Some(&here), &file));
        assert!(!leads_to_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino + 1)), &file));
        assert!(!leads_to_journal(Some("nonsense"), &file));
        assert!(!leads_to_journal(None, &file));
    }
}
