//! `password-hash` and `password-verify`: slow on purpose, within caps that hold whoever chooses the costs.
//!
//! The schemes cannot be interrupted, so the caps are what keeps one hash under half a second. A stored hash
//! is a parameter like any other: the costs that it names are held to the same caps, before memory is
//! allocated.

mod recipe;

use std::sync::Arc;
use std::time::Duration;

use argon2::{Algorithm, Params, Version};
use windlass_actors::operation::{
    Arguments, Declaration, Estimate, Input, JobContext, Limit, Operation, OperationError, Output, Parameter,
    ParameterKind, Resultant, Secrecy, Value,
};
use windlass_actors::units::format_size;

use super::{integer_limit, size_limit};
use recipe::{Caps, Recipe, SALT_BYTES, Stored};

/// Longest stored hash, bytes; the longest PHC string of the known schemes has some 250.
const STORED_BYTES_MAX: usize = 512;

/// What a hash or an answer takes, bytes.
const OUTPUT_BYTES: u64 = 256;

/// Ranges of the costs, before an operator narrows them. Each end is where a single hash reaches the time
/// cap.
const MEMORY_BYTES: (u64, u64) = (8 << 10, 256 << 20);
const ITERATIONS: (i64, i64) = (1, 1000);
const PARALLELISM: (i64, i64) = (1, 16);
const LOG_N: (i64, i64) = (1, 17);
const BLOCK_SIZE: (i64, i64) = (1, 32);
const COST: (i64, i64) = (4, 13);

/// The longest that one hash may be estimated to take; with what estimates may err, a hash stays under the
/// longest stretch that any operation may have.
const TIME_MAX: &str = "450ms";

/// Longest that a hash takes within [`TIME_MAX`], and what it takes longer than its estimate.
const STRETCH_MAX: Duration = Duration::from_millis(500);

struct PasswordHashing {
    declaration: Declaration,
}

struct PasswordVerifying {
    declaration: Declaration,
}

fn integer((min, max): (i64, i64)) -> ParameterKind {
    ParameterKind::Integer { min, max }
}

fn memory() -> ParameterKind {
    ParameterKind::Size { min: MEMORY_BYTES.0, max: MEMORY_BYTES.1 }
}

fn common_limits() -> Vec<Limit> {
    vec![
        Limit {
            name: "password_max",
            kind: ParameterKind::Size { min: 1, max: 1 << 20 },
            value: "4KiB".to_owned(),
            about: "longest password",
        },
        Limit {
            name: "time_max",
            kind: ParameterKind::Duration { min: Duration::from_millis(1), max: Duration::from_secs(60) },
            value: TIME_MAX.to_owned(),
            about: "most CPU time that one hash may come to, by estimate; it cannot be interrupted",
        },
    ]
}

pub(super) fn hash_declaration() -> Declaration {
    let cost = |name, kind, default: &str, about| Parameter {
        name,
        kind,
        default: Some(default.to_owned()),
        required: false,
        about,
    };
    Declaration {
        name: "password-hash",
        about: "salted hash of the password in the body, as a PHC string (bcrypt: `$2b$`)",
        parameters: vec![
            cost(
                "algorithm",
                ParameterKind::Choice(&["argon2id", "scrypt", "bcrypt"]),
                "argon2id",
                "the scheme",
            ),
            cost("memory", memory(), "19MiB", "argon2id: memory, in whole KiB"),
            cost("iterations", integer(ITERATIONS), "2", "argon2id: passes over the memory"),
            cost("parallelism", integer(PARALLELISM), "1", "argon2id and scrypt: lanes, computed one by one"),
            cost(
                "log-n",
                integer(LOG_N),
                "17",
                "scrypt: logarithm of N; 128 * N * block-size bytes of memory",
            ),
            cost("block-size", integer(BLOCK_SIZE), "8", "scrypt: r"),
            cost("cost", integer(COST), "12", "bcrypt: logarithm of the rounds"),
        ],
        limits: common_limits(),
        result: Resultant::Text,
        secrecy: Secrecy::Secret,
        // Each salt is new, but a second hash of the same password does no harm.
        pure: true,
        stretch_max: STRETCH_MAX,
    }
}

pub(super) fn verify_declaration() -> Declaration {
    let cap = |name, kind, value: String, about| Limit { name, kind, value, about };
    let most = |(_, max): (i64, i64)| max.to_string();
    let mut limits = common_limits();
    limits.extend([
        cap(
            "memory_max",
            memory(),
            format_size(MEMORY_BYTES.1),
            "most memory of a stored argon2 or scrypt hash",
        ),
        cap(
            "iterations_max",
            integer(ITERATIONS),
            most(ITERATIONS),
            "most iterations of a stored argon2 hash",
        ),
        cap("parallelism_max", integer(PARALLELISM), most(PARALLELISM), "most parallelism of a stored hash"),
        cap("log_n_max", integer(LOG_N), most(LOG_N), "most log-n of a stored scrypt hash"),
        cap(
            "block_size_max",
            integer(BLOCK_SIZE),
            most(BLOCK_SIZE),
            "most block-size of a stored scrypt hash",
        ),
        cap("cost_max", integer(COST), most(COST), "most cost of a stored bcrypt hash"),
    ]);
    Declaration {
        name: "password-verify",
        about: "`true` if the password in the body is the one that was hashed, else `false`",
        parameters: vec![Parameter {
            name: "hash",
            kind: ParameterKind::Text { bytes_max: STORED_BYTES_MAX },
            default: None,
            required: true,
            about: "the stored hash: argon2id, argon2i, argon2d, scrypt, `$2a$`, `$2b$` or `$2y$`",
        }],
        limits,
        result: Resultant::Text,
        secrecy: Secrecy::Secret,
        pure: true,
        stretch_max: STRETCH_MAX,
    }
}

pub(super) fn build_hash(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(PasswordHashing { declaration: with_true_stretch(declaration) })
}

pub(super) fn build_verify(declaration: Declaration) -> Arc<dyn Operation> {
    Arc::new(PasswordVerifying { declaration: with_true_stretch(declaration) })
}

/// An operator who allows longer hashes gets longer stretches, and the catalogue says so.
fn with_true_stretch(mut declaration: Declaration) -> Declaration {
    let longest = limit_time(&declaration).mul_f64(1.1);
    declaration.stretch_max = declaration.stretch_max.max(longest);
    declaration
}

fn number(value: i64) -> u32 {
    u32::try_from(value).expect("costs are declared in a small range")
}

fn limit_time(declaration: &Declaration) -> Duration {
    match declaration.limit("time_max") {
        Value::Duration(time) => time,
        other => unreachable!("'time_max' is declared as a duration and is {other:?}"),
    }
}

/// What both operations say of a request.
fn estimate(
    declaration: &Declaration,
    recipe: &Recipe,
    password_bytes: u64,
) -> Result<Estimate, OperationError> {
    let password_max = size_limit(declaration, "password_max");
    if password_bytes > password_max {
        return Err(OperationError::TooLarge(format!(
            "the password has {password_bytes} bytes, more than the {} allowed",
            format_size(password_max)
        )));
    }
    recipe.check_length(password_bytes).map_err(OperationError::InvalidInput)?;
    Ok(Estimate { cpu: recipe.cpu(), output_bytes: OUTPUT_BYTES, work_bytes: recipe.work_bytes() })
}

impl PasswordHashing {
    fn recipe(arguments: &Arguments) -> Result<Recipe, OperationError> {
        let cost = |name| number(arguments.integer(name).expect("the parameter has a default"));
        match arguments.choice("algorithm") {
            Some("scrypt") => {
                let log_n = u8::try_from(cost("log-n")).expect("log-n is declared in a small range");
                Recipe::scrypt(log_n, cost("block-size"), cost("parallelism"))
                    .map_err(OperationError::InvalidParameter)
            }
            Some("bcrypt") => Ok(Recipe::Bcrypt { cost: cost("cost") }),
            _ => {
                let memory = arguments.size("memory").expect("the parameter has a default");
                if !memory.is_multiple_of(1024) {
                    return Err(OperationError::InvalidParameter(format!(
                        "parameter 'memory': {} is not a whole number of KiB",
                        format_size(memory)
                    )));
                }
                let memory_kib = u32::try_from(memory >> 10).expect("memory is declared in a small range");
                let params = Params::new(memory_kib, cost("iterations"), cost("parallelism"), None).map_err(
                    |error| {
                        OperationError::InvalidParameter(format!(
                            "memory and parallelism do not fit together: {error}; every lane needs 8KiB"
                        ))
                    },
                )?;
                Ok(Recipe::Argon2 { algorithm: Algorithm::Argon2id, version: Version::V0x13, params })
            }
        }
    }

    /// The upper ends of the parameters hold for what they imply too: scrypt's memory is capped by `memory`.
    fn caps(&self) -> Caps {
        let most = |name: &str| {
            let parameter = self.declaration.parameters.iter().find(|parameter| parameter.name == name);
            match parameter.expect("the costs are declared").kind {
                ParameterKind::Integer { max, .. } => u64::from(number(max)),
                ParameterKind::Size { max, .. } => max,
                ref other => unreachable!("'{name}' is declared as {other:?}"),
            }
        };
        let small = |name| u32::try_from(most(name)).expect("costs are declared in a small range");
        Caps {
            memory_bytes: most("memory"),
            iterations: small("iterations"),
            parallelism: small("parallelism"),
            log_n: small("log-n"),
            block_size: small("block-size"),
            cost: small("cost"),
            time: limit_time(&self.declaration),
        }
    }
}

impl Operation for PasswordHashing {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, arguments: &Arguments, input_bytes: u64) -> Result<Estimate, OperationError> {
        let recipe = Self::recipe(arguments)?;
        recipe.check(&self.caps()).map_err(OperationError::InvalidParameter)?;
        estimate(&self.declaration, &recipe, input_bytes)
    }

    fn run(
        &self,
        arguments: &Arguments,
        input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        let recipe = Self::recipe(arguments)?;
        recipe.check_content(input).map_err(OperationError::InvalidInput)?;
        context.stop.check()?;
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt)
            .map_err(|error| OperationError::Internal(format!("no random salt to be had: {error}")))?;
        let text = recipe
            .hash(input, &salt, context.areas.area())
            .map_err(|error| OperationError::Internal(format!("the hash cannot be made: {error}")))?;
        Ok(text.into())
    }
}

/// A fault of the stored hash, which is never repeated.
fn in_hash(reason: String) -> OperationError {
    OperationError::InvalidParameter(format!("parameter 'hash': {reason}"))
}

impl PasswordVerifying {
    fn stored(arguments: &Arguments) -> Result<Stored, OperationError> {
        let text = arguments.text("hash").expect("the parameter is required");
        Stored::parse(text).map_err(in_hash)
    }

    fn caps(&self) -> Caps {
        let most = |name| {
            u32::try_from(integer_limit(&self.declaration, name))
                .expect("costs are declared in a small range")
        };
        Caps {
            memory_bytes: size_limit(&self.declaration, "memory_max"),
            iterations: most("iterations_max"),
            parallelism: most("parallelism_max"),
            log_n: most("log_n_max"),
            block_size: most("block_size_max"),
            cost: most("cost_max"),
            time: limit_time(&self.declaration),
        }
    }
}

impl Operation for PasswordVerifying {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn estimate(&self, arguments: &Arguments, input_bytes: u64) -> Result<Estimate, OperationError> {
        let stored = Self::stored(arguments)?;
        stored.recipe.check(&self.caps()).map_err(in_hash)?;
        estimate(&self.declaration, &stored.recipe, input_bytes)
    }

    fn run(
        &self,
        arguments: &Arguments,
        input: &mut Input,
        context: &mut JobContext<'_>,
    ) -> Result<Output, OperationError> {
        let stored = Self::stored(arguments)?;
        stored.recipe.check_content(input).map_err(OperationError::InvalidInput)?;
        context.stop.check()?;
        let matches = stored
            .verify(input, context.areas.area())
            .map_err(|error| OperationError::Internal(format!("the hash cannot be checked: {error}")))?;
        Ok(Output::from(if matches { &b"true"[..] } else { &b"false"[..] }))
    }
}

#[cfg(test)]
mod tests;
