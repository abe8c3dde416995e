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
}
