//! Durations and sizes as people write them: an integer and a unit, nothing else.

use std::time::Duration;

use thiserror::Error;

/// A text that is not an integer and a unit.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    /// Not of the form at all.
    #[error("'{found}' is not an integer and a unit; write for example {example}")]
    Form {
        /// What was found.
        found: String,
        /// A text of the right form.
        example: &'static str,
    },
    /// The unit is not known.
    #[error("'{found}' is not a unit of {thing}; the units are {units}")]
    Unit {
        /// What was found.
        found: String,
        /// What was meant to be read.
        thing: &'static str,
        /// The known units.
        units: &'static str,
    },
    /// The number does not fit.
    #[error("'{found}' is too large")]
    TooLarge {
        /// What was found.
        found: String,
    },
}

const NANOSECONDS: [(&str, u64); 5] =
    [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000), ("h", 3_600_000_000_000)];
const BYTES: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a duration such as `250ms`, `30s` or `10m`.
///
/// # Errors
///
/// When the text is not an integer with one of the units `us ms s m h`, or is longer than 584 years.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    quantity(text, "time", "us ms s m h", "250ms", &NANOSECONDS).map(Duration::from_nanos)
}

/// Reads a size such as `64KiB` or `1GiB`, in bytes.
///
/// # Errors
///
/// When the text is not an integer with one of the units `B KiB MiB GiB`, or does not fit 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    quantity(text, "size", "B KiB MiB GiB", "64KiB", &BYTES)
}

fn quantity(
    text: &str,
    thing: &'static str,
    units: &'static str,
    example: &'static str,
    table: &[(&str, u64)],
) -> Result<u64, UnitError> {
    let form = || UnitError::Form { found: shortened(text), example };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() || unit.is_empty() {
        return Err(form());
    }
    let (_, factor) = table.iter().find(|(name, _)| *name == unit).ok_or_else(|| UnitError::Unit {
        found: shortened(unit),
        thing,
        units,
    })?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*factor))
        .ok_or_else(|| UnitError::TooLarge { found: shortened(text) })
}

/// A stranger's text, fit for a message.
fn shortened(text: &str) -> String {
    text.chars().take(32).flat_map(char::escape_debug).collect()
}

/// Writes a duration in the largest unit that keeps it exact.
pub fn format_duration(duration: Duration) -> String {
    format_in(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), &NANOSECONDS)
}

/// Writes a size in the largest unit that keeps it exact.
pub fn format_size(bytes: u64) -> String {
    format_in(bytes, &BYTES)
}

fn format_in(value: u64, table: &[(&str, u64)]) -> String {
    let smallest = table[0];
    let (unit, factor) = table
        .iter()
        .rev()
        .find(|(_, factor)| value != 0 && value.is_multiple_of(*factor))
        .copied()
        .unwrap_or(if value == 0 && table.len() == NANOSECONDS.len() { ("s", 1) } else { smallest });
    format!("{}{unit}", value / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_an_integer_and_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for bad in ["", "5", "s", "1.5s", "-1s", "1 s", "5 minutes", "99999999999h"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_an_integer_and_a_unit() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("0B"), Ok(0));
        for bad in ["", "64", "64MB", "1.5GiB", "64mib", "18446744073709551615KiB"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for millis in [0, 1, 250, 1000, 60_000, 90_000, 3_600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        for size in [0, 1, 1024, 1500, 64 << 20, 1 << 30] {
            assert_eq!(parse_size(&format_size(size)), Ok(size));
        }
        assert_eq!(format_duration(Duration::from_secs(600)), "10m");
        assert_eq!(format_size(64 << 20), "64MiB");
    }
}
