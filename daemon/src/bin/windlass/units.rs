//! Durations and sizes on the command line: an integer and a unit, as in the daemon's configuration.

use std::time::Duration;

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000)];
    quantity(text, &units, "250ms").map(Duration::from_nanos)
}

pub(crate) fn size(text: &str) -> Result<u64, String> {
    quantity(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)], "64KiB")
}

fn quantity(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let value =
        number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    value.ok_or_else(|| {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        format!("write an integer and one of the units {}, as in {example}", names.join(", "))
    })
}

/// A duration with three digits that matter, for people.
pub(crate) fn readable(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    match nanos {
        0..1_000_000 => format!("{:.1} µs", duration.as_secs_f64() * 1e6),
        1_000_000..1_000_000_000 => format!("{:.2} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest integer in range, which is all that people read off it"
)]
pub(crate) fn rounded(value: f64) -> u64 {
    value.round() as u64
}

/// Three digits that matter from 10,000 on.
pub(crate) fn count(value: f64) -> String {
    match value {
        0.0..10.0 if value.fract() > 0.0 => format!("{value:.1}"),
        0.0..10_000.0 => format!("{value:.0}"),
        0.0..1e6 => format!("{:.1}k", value / 1e3),
        0.0..1e9 => format!("{:.1}M", value / 1e6),
        _ => format!("{:.1}G", value / 1e9),
    }
}

/// A size in the largest unit that it is one of.
pub(crate) fn bytes(value: f64) -> String {
    let mut value = value;
    for unit in ["B", "KiB", "MiB"] {
        if value < 1024.0 {
            return if unit == "B" || value.fract() == 0.0 {
                format!("{value:.0} {unit}")
            } else {
                format!("{value:.1} {unit}")
            };
        }
        value /= 1024.0;
    }
    format!("{value:.1} GiB")
}

/// A long time, for people.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_an_integer_and_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(size("64KiB"), Ok(65_536));
        for bad in ["", "5", "s", "1.5s", "-1s", "1 s", "99999999999999m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(
            [0.0, 0.5, 7.0, 9_999.0, 12_345.0, 2.5e6].map(count),
            ["0", "0.5", "7", "9999", "12.3k", "2.5M"]
        );
        assert_eq!([0.0, 1024.0, 1536.0, 536_870_912.0].map(bytes), ["0 B", "1 KiB", "1.5 KiB", "512 MiB"]);
        assert_eq!(span(Duration::from_secs(3_725)), "1 h 2 min");
    }
}
