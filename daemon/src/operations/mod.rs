//! What the daemon can be asked to do: one file per operation, one table of them all.
//!
//! Operations see bytes, arguments and a [`JobContext`](windlass_actors::operation::JobContext), and nothing
//! else of the daemon.

mod compress;
mod decompress;
mod echo;
#[cfg(feature = "faults")]
mod faults;
mod hash;
mod password;
mod spin;
#[cfg(test)]
mod stretch;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use windlass_actors::operation::{Declaration, Operation, ParameterKind, Value};

/// An operation that the program knows: how it describes itself, and how it is made once an operator has had
/// a say in the description.
struct Known {
    declaration: fn() -> Declaration,
    build: fn(Declaration) -> Arc<dyn Operation>,
}

/// All of them, in name order.
const KNOWN: &[Known] = &[
    Known { declaration: compress::declaration, build: compress::build },
    Known { declaration: decompress::declaration, build: decompress::build },
    Known { declaration: echo::declaration, build: echo::build },
    #[cfg(feature = "faults")]
    Known { declaration: faults::panic_declaration, build: faults::build_panic },
    #[cfg(feature = "faults")]
    Known { declaration: faults::slow_declaration, build: faults::build_slow },
    #[cfg(feature = "faults")]
    Known { declaration: faults::stuck_declaration, build: faults::build_stuck },
    Known { declaration: hash::declaration, build: hash::build },
    Known { declaration: password::hash_declaration, build: password::build_hash },
    Known { declaration: password::verify_declaration, build: password::build_verify },
    Known { declaration: spin::declaration, build: spin::build },
];

/// The default declarations of all operations, in name order. The place in this list is the operation's
/// [`OperationIndex`](windlass_actors::operation::OperationIndex).
pub fn declared() -> Vec<Declaration> {
    KNOWN.iter().map(|known| (known.declaration)()).collect()
}

/// Makes the operation of a declaration that came from [`declared`], possibly with other defaults and limits.
///
/// # Panics
///
/// When the declaration has a name that is not in [`declared`].
pub fn build(declaration: Declaration) -> Arc<dyn Operation> {
    let known = KNOWN
        .iter()
        .find(|known| (known.declaration)().name == declaration.name)
        .expect("declarations to build come from `declared`");
    (known.build)(declaration)
}

/// The table of operations, parameters and operator's limits in the README.
pub fn markdown(declarations: &[Declaration]) -> String {
    let mut table =
        String::from("| operation | parameter | values | default | meaning |\n|---|---|---|---|---|\n");
    for declaration in declarations {
        let mut row =
            |operation: &str, name: &str, kind: Option<&ParameterKind>, default: &str, about: &str| {
                let values = kind.map(ParameterKind::range).unwrap_or_default();
                writeln!(table, "| {operation} | {name} | {values} | {default} | {about} |")
                    .expect("a string takes all text");
            };
        row(&format!("**`{}`**", declaration.name), "", None, "", declaration.about);
        for parameter in &declaration.parameters {
            let default = match &parameter.default {
                Some(default) => format!("`{default}`"),
                None if parameter.required => "required".to_owned(),
                None => "none".to_owned(),
            };
            row("", &format!("`{}`", parameter.name), Some(&parameter.kind), &default, parameter.about);
        }
        for limit in &declaration.limits {
            let name = format!("limit `{}`", limit.name);
            row("", &name, Some(&limit.kind), &format!("`{}`", limit.value), limit.about);
        }
    }
    table
}

/// A limit that the operation declares as a size, bytes.
fn size_limit(declaration: &Declaration, name: &str) -> u64 {
    match declaration.limit(name) {
        Value::Size(bytes) => bytes,
        other => unreachable!("'{name}' is declared as a size and is {other:?}"),
    }
}

/// A limit that the operation declares as a positive number.
fn integer_limit(declaration: &Declaration, name: &str) -> u64 {
    match declaration.limit(name) {
        Value::Integer(number) => u64::try_from(number).expect("limits are declared as positive"),
        other => unreachable!("'{name}' is declared as an integer and is {other:?}"),
    }
}

/// Longest time between two looks at the stop flag of operations that work in small steps.
const SMALL_STRETCH: Duration = Duration::from_millis(10);

/// A work area that grew beyond this for one job is not kept for the next: the rare large job would otherwise occupy
/// every worker's memory for ever. 64 MiB is the second choice of RFC 9106 for argon2, the largest in common use.
const AREA_BYTES_KEPT_MAX: u64 = 64 << 20;

/// The time that `bytes` take at some picoseconds each, after a fixed start.
fn cpu_time(start: Duration, bytes: u64, picoseconds_per_byte: u64) -> Duration {
    start.saturating_add(Duration::from_nanos(bytes.saturating_mul(picoseconds_per_byte) / 1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        let declared = declared();
        assert!(declared.windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn every_declaration_holds_and_builds_an_operation_of_its_name() {
        for declaration in declared() {
            assert_eq!(declaration.check(), Ok(()), "{}", declaration.name);
            for limit in &declaration.limits {
                declaration.limit(limit.name);
            }
            assert!(
                declaration.stretch_max <= Duration::from_millis(500) || declaration.name == "fault-stuck"
            );
            let name = declaration.name;
            assert_eq!(build(declaration).declaration().name, name);
        }
    }

    #[test]
    fn every_setting_takes_its_own_default() {
        for mut declaration in declared() {
            for limit in declaration.limits.clone() {
                assert_eq!(declaration.set(&limit.name.replace('-', "_"), &limit.value), Ok(()));
            }
            for parameter in declaration.parameters.clone() {
                if let Some(default) = &parameter.default {
                    assert_eq!(declaration.set(&parameter.name.replace('-', "_"), default), Ok(()));
                }
            }
            assert_eq!(declaration.check(), Ok(()));
        }
    }

    #[test]
    fn the_table_names_every_operation_parameter_and_limit() {
        let declared = declared();
        let table = markdown(&declared);
        for declaration in &declared {
            assert!(table.contains(&format!("| **`{}`** |", declaration.name)));
            for parameter in &declaration.parameters {
                assert!(table.contains(&format!("| `{}` |", parameter.name)));
            }
            for limit in &declaration.limits {
                assert!(table.contains(&format!("| limit `{}` |", limit.name)));
            }
        }
        assert!(table.lines().all(|line| line.matches('|').count() == 6), "a cell breaks the table");
    }

    #[test]
    fn an_estimate_cannot_overflow() {
        assert!(cpu_time(Duration::MAX, u64::MAX, u64::MAX) == Duration::MAX);
    }
}
