//! Ranges as regular expressions (ECMA-262, as JSON Schema takes them), so that the OpenAPI document says exactly which
//! durations and sizes are accepted.

use std::fmt::Write;
use std::ops::RangeInclusive;

use windlass_actors::units::{parse_duration, parse_size};

const TIMES: [&str; 5] = ["us", "ms", "s", "m", "h"];
const SIZES: [&str; 4] = ["B", "KiB", "MiB", "GiB"];

/// Every way to write a duration within `nanoseconds`.
pub(super) fn durations(nanoseconds: &RangeInclusive<u64>) -> String {
    let factor = |unit: &str| parse_duration(unit).ok().and_then(|one| u64::try_from(one.as_nanos()).ok());
    quantities(nanoseconds, &TIMES, factor)
}

/// Every way to write a size within `bytes`.
pub(super) fn sizes(bytes: &RangeInclusive<u64>) -> String {
    quantities(bytes, &SIZES, |unit| parse_size(unit).ok())
}

/// An integer and a unit. `factor` reads one of a unit, `1ms`, by the same code that reads requests.
fn quantities(range: &RangeInclusive<u64>, units: &[&str], factor: impl Fn(&str) -> Option<u64>) -> String {
    let of_unit = |unit: &&str| {
        let factor = factor(&format!("1{unit}")).expect("the units are those that are read");
        let (min, max) = (range.start().div_ceil(factor), range.end() / factor);
        (min <= max).then(|| format!("({}){unit}", integers(min, max)))
    };
    let alternatives: Vec<String> = units.iter().filter_map(of_unit).collect();
    // Leading zeros mean nothing.
    format!("^0*({})$", alternatives.join("|"))
}

/// The integers from `min` to `max`, in pieces that are a prefix, one range of digits, and any digits.
fn integers(mut min: u64, max: u64) -> String {
    let mut pattern = String::new();
    loop {
        // The largest power of ten that pieces can have here. 0 has no other digits behind it.
        let mut size = 1_u64;
        while let Some(larger) = size.checked_mul(10)
            && min != 0
            && min.is_multiple_of(larger)
            && max - min >= larger - 1
        {
            size = larger;
        }
        let (prefix, digit) = (min / size / 10, min / size % 10);
        let last = digit + (9 - digit).min((max - min - (size - 1)) / size);
        if prefix > 0 {
            let _infallible = write!(pattern, "{prefix}");
        }
        let _infallible = match last - digit {
            0 => write!(pattern, "{digit}"),
            _ => write!(pattern, "[{digit}-{last}]"),
        };
        match size.ilog10() {
            0 => {}
            1 => pattern.push_str("[0-9]"),
            n => {
                let _infallible = write!(pattern, "[0-9]{{{n}}}");
            }
        }
        match min.checked_add(size * (last - digit)).and_then(|min| min.checked_add(size)) {
            Some(next) if next <= max => min = next,
            _ => return pattern,
        }
        pattern.push('|');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads what [`integers`] writes: alternatives of literal digits, one range of digits, `[0-9]`, `[0-9]{n}`.
    fn matches(pattern: &str, text: &str) -> bool {
        pattern.split('|').any(|piece| {
            let (mut rest, mut text) = (piece, text.bytes());
            while !rest.is_empty() {
                let (low, high, tail) = match rest.strip_prefix('[') {
                    Some(range) => (range.as_bytes()[0], range.as_bytes()[2], &range[4..]),
                    None => (rest.as_bytes()[0], rest.as_bytes()[0], &rest[1..]),
                };
                let (count, tail) = match tail.strip_prefix('{') {
                    Some(counted) => counted.split_once('}').unwrap(),
                    None => ("1", tail),
                };
                for _ in 0..count.parse::<usize>().unwrap() {
                    match text.next() {
                        Some(byte) if (low..=high).contains(&byte) => {}
                        _ => return false,
                    }
                }
                rest = tail;
            }
            text.next().is_none()
        })
    }

    #[test]
    fn exactly_the_integers_of_a_range_match() {
        for (min, max) in [
            (0, 0),
            (0, 9),
            (0, 10),
            (7, 7),
            (1, 1000),
            (8, 256),
            (95, 105),
            (0, 4096),
            (199, 2001),
            (10, 99),
        ] {
            let pattern = integers(min, max);
            for number in 0..5000_u64 {
                let expected = (min..=max).contains(&number);
                assert_eq!(matches(&pattern, &number.to_string()), expected, "{number} in {pattern}");
            }
        }
        let all = integers(0, u64::MAX);
        for number in [0, 9, 10, 1 << 33, u64::MAX - 1, u64::MAX] {
            assert!(matches(&all, &number.to_string()), "{number} in {all}");
        }
        assert!(!matches(&all, "18446744073709551616"), "{all}");
    }

    #[test]
    fn a_unit_in_which_no_integer_fits_is_left_out() {
        assert_eq!(
            durations(&(0..=50_000_000)),
            "^0*(([0-9]|[1-9][0-9]|[1-9][0-9]{2}|[1-9][0-9]{3}|[1-4][0-9]{4}|50000)us|([0-9]|[1-4][0-9]|50)ms|(0)s|(0)m|(0)h)$"
        );
        assert_eq!(sizes(&(1000..=1024)), "^0*((10[0-1][0-9]|102[0-4])B|(1)KiB)$");
    }
}
