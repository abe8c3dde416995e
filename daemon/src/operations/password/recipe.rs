//! How a password becomes a hash: scheme and costs, from the parameters of a request or from a stored hash.
//!
//! Everything here but [`Recipe::derive`] is a formula, so that costs over a cap are refused before memory is
//! allocated.

use std::any::Any;
use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use password_hash::phc::{Output as Digest, PasswordHash, Salt, Value as PhcValue};
use windlass_actors::operation::WorkArea;
use windlass_actors::units::format_size;

use crate::operations::AREA_BYTES_KEPT_MAX;

/// Bytes of a fresh salt, as the PHC string specification recommends.
pub(super) const SALT_BYTES: usize = 16;

/// Bytes of a fresh digest.
const DIGEST_BYTES: usize = 32;

/// Longest password that bcrypt reads to its end, bytes.
pub(super) const BCRYPT_BYTES_MAX: u64 = 72;

/// Scheme and costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Recipe {
    /// RFC 9106.
    Argon2 {
        /// Which of the three.
        algorithm: Algorithm,
        /// Of the algorithm.
        version: Version,
        /// Memory, passes and lanes, consistent with each other.
        params: Params,
    },
    /// RFC 7914.
    Scrypt {
        /// Logarithm of the cost N.
        log_n: u8,
        /// r.
        block_size: u32,
        /// p.
        parallelism: u32,
    },
    /// Provos and Mazières, "A Future-Adaptable Password Scheme", 1999.
    Bcrypt {
        /// Logarithm of the rounds.
        cost: u32,
    },
}

/// The most that a request may ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caps {
    /// Working memory, bytes.
    pub(super) memory_bytes: u64,
    /// Passes of argon2.
    pub(super) iterations: u32,
    /// Lanes of argon2, p of scrypt.
    pub(super) parallelism: u32,
    /// Logarithm of N of scrypt.
    pub(super) log_n: u32,
    /// r of scrypt.
    pub(super) block_size: u32,
    /// Cost of bcrypt.
    pub(super) cost: u32,
    /// Estimated time on the CPU.
    pub(super) time: Duration,
}

/// A hash as applications keep it.
pub(super) struct Stored {
    /// How it was made.
    pub(super) recipe: Recipe,
    kept: Kept,
}

enum Kept {
    Phc {
        salt: Salt,
        digest: Digest,
    },
    /// The bcrypt crate takes its own text.
    Bcrypt(Box<str>),
}

/// The argon2 memory that a worker keeps.
pub(super) struct Argon2Area(Vec<Block>);

impl WorkArea for Argon2Area {
    fn new() -> Self {
        Self(Vec::new())
    }

    fn bytes(&self) -> u64 {
        (self.0.capacity() * Block::SIZE) as u64
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

impl Argon2Area {
    #[cfg(test)]
    pub(super) fn is_wiped(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|block| block.as_ref().iter().all(|word| *word == 0))
    }

    /// Runs with this many blocks, which are wiped afterwards: the first of them tell a password from a wrong
    /// one for a fraction of the work.
    fn with_blocks<R>(&mut self, count: usize, run: impl FnOnce(&mut [Block]) -> R) -> R {
        if self.0.len() < count {
            // Nothing in the old blocks is worth copying.
            self.0 = Vec::new();
            self.0.resize(count, Block::new());
        }
        let blocks = &mut self.0[..count];
        let result = run(blocks);
        blocks.fill(Block::new());
        if self.bytes() > AREA_BYTES_KEPT_MAX {
            self.0 = Vec::new();
        }
        result
    }
}

impl Recipe {
    /// The scheme scrypt, once the RFC has nothing against these costs.
    pub(super) fn scrypt(log_n: u8, block_size: u32, parallelism: u32) -> Result<Self, String> {
        // RFC 7914, section 2; not everyone's library minds, but others would not verify such a hash.
        let small_n = (1..16 * u64::from(block_size)).contains(&u64::from(log_n));
        match scrypt::Params::new(log_n, block_size, parallelism) {
            Ok(_) if small_n => Ok(Self::Scrypt { log_n, block_size, parallelism }),
            _ => Err(format!(
                "scrypt takes no log-n of {log_n} with a block-size of {block_size} and a parallelism of \
                 {parallelism}; N must be below 2^(16 * block-size)"
            )),
        }
    }

    /// Refuses what is over a cap, naming both.
    pub(super) fn check(&self, caps: &Caps) -> Result<(), String> {
        let at_most = |thing: &str, asked: u32, cap: u32| match asked <= cap {
            true => Ok(()),
            false => Err(format!("{thing} {asked} is over the cap of {cap}")),
        };
        match self {
            Self::Argon2 { params, .. } => {
                at_most("iterations", params.t_cost(), caps.iterations)?;
                at_most("parallelism", params.p_cost(), caps.parallelism)?;
            }
            Self::Scrypt { log_n, block_size, parallelism } => {
                at_most("log-n", u32::from(*log_n), caps.log_n)?;
                at_most("block-size", *block_size, caps.block_size)?;
                at_most("parallelism", *parallelism, caps.parallelism)?;
            }
            Self::Bcrypt { cost } => at_most("cost", *cost, caps.cost)?,
        }
        if self.work_bytes() > caps.memory_bytes {
            return Err(format!(
                "memory of {} is over the cap of {}",
                format_size(self.work_bytes()),
                format_size(caps.memory_bytes)
            ));
        }
        if self.cpu() > caps.time {
            return Err(format!(
                "the costs come to some {} ms of CPU, over the cap time_max of {} ms",
                self.cpu().as_millis(),
                caps.time.as_millis()
            ));
        }
        Ok(())
    }

    /// Memory while the hash is made, bytes.
    pub(super) fn work_bytes(&self) -> u64 {
        match self {
            Self::Argon2 { params, .. } => u64::from(params.m_cost()) << 10,
            Self::Scrypt { log_n, block_size, parallelism } => {
                let n = 1_u64.checked_shl(u32::from(*log_n)).unwrap_or(u64::MAX);
                let blocks = n.saturating_add(u64::from(*parallelism)).saturating_add(1);
                blocks.saturating_mul(128 * u64::from(*block_size))
            }
            Self::Bcrypt { .. } => 4 << 10,
        }
    }

    /// Time on one core, from measurements of release builds on a processor of 2020.
    pub(super) fn cpu(&self) -> Duration {
        let nanoseconds = match self {
            Self::Argon2 { params, .. } => {
                let passes = u64::from(params.t_cost()).saturating_mul(ARGON2_PASS_NANOSECONDS);
                u64::from(params.m_cost()).saturating_mul(passes.saturating_add(ARGON2_TOUCH_NANOSECONDS))
            }
            Self::Scrypt { log_n, block_size, parallelism } => {
                let n = 1_u64.checked_shl(u32::from(*log_n)).unwrap_or(u64::MAX);
                n.saturating_mul(u64::from(*block_size))
                    .saturating_mul(u64::from(*parallelism))
                    .saturating_mul(SCRYPT_BLOCK_NANOSECONDS)
            }
            Self::Bcrypt { cost } => {
                1_u64.checked_shl(*cost).unwrap_or(u64::MAX).saturating_mul(BCRYPT_ROUND_NANOSECONDS)
            }
        };
        Duration::from_nanos(nanoseconds)
    }

    /// Refuses passwords that the scheme does not read to their end. A length is all that is known before the
    /// password is.
    pub(super) fn check_length(&self, password_bytes: u64) -> Result<(), String> {
        match self {
            Self::Bcrypt { .. } if password_bytes > BCRYPT_BYTES_MAX => Err(format!(
                "bcrypt reads {BCRYPT_BYTES_MAX} bytes of a password and this one has {password_bytes}"
            )),
            _ => Ok(()),
        }
    }

    /// Other implementations of bcrypt end a password at its first NUL.
    pub(super) fn check_content(&self, password: &[u8]) -> Result<(), String> {
        match self {
            Self::Bcrypt { .. } if password.contains(&0) => {
                Err("bcrypt reads a password up to its first NUL byte and this one contains one".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Makes the text to keep.
    pub(super) fn hash(
        &self,
        password: &[u8],
        salt: &[u8; SALT_BYTES],
        area: &mut Argon2Area,
    ) -> Result<String, String> {
        if let Self::Bcrypt { cost } = self {
            let parts = bcrypt::hash_with_salt(password, *cost, *salt).map_err(|error| error.to_string())?;
            return Ok(parts.format_for_version(bcrypt::Version::TwoB));
        }
        let salt = Salt::new(salt).map_err(|error| error.to_string())?;
        let digest = self.derive(password, &salt, DIGEST_BYTES, area)?;
        let text = match self {
            Self::Argon2 { algorithm, version, params } => format!(
                "${}$v={}$m={},t={},p={}${salt}${digest}",
                algorithm.as_str(),
                u32::from(*version),
                params.m_cost(),
                params.t_cost(),
                params.p_cost()
            ),
            Self::Scrypt { log_n, block_size, parallelism } => {
                format!("$scrypt$ln={log_n},r={block_size},p={parallelism}${salt}${digest}")
            }
            Self::Bcrypt { .. } => unreachable!("bcrypt writes its own text"),
        };
        Ok(text)
    }

    fn derive(
        &self,
        password: &[u8],
        salt: &Salt,
        digest_bytes: usize,
        area: &mut Argon2Area,
    ) -> Result<Digest, String> {
        let mut buffer = [0; Digest::MAX_LENGTH];
        let digest = buffer.get_mut(..digest_bytes).ok_or("the digest is too long")?;
        match self {
            Self::Argon2 { algorithm, version, params } => {
                let argon2 = Argon2::new(*algorithm, *version, params.clone());
                area.with_blocks(params.block_count(), |blocks| {
                    argon2.hash_password_into_with_memory(password, salt, digest, blocks)
                })
                .map_err(|error| error.to_string())?;
            }
            Self::Scrypt { log_n, block_size, parallelism } => {
                let params = scrypt::Params::new(*log_n, *block_size, *parallelism)
                    .map_err(|error| error.to_string())?;
                scrypt::scrypt(password, salt, &params, digest).map_err(|error| error.to_string())?;
            }
            Self::Bcrypt { .. } => unreachable!("bcrypt makes its own digest"),
        }
        Digest::new(digest).map_err(|error| error.to_string())
    }
}

/// argon2, for one block of 1 KiB in one pass.
const ARGON2_PASS_NANOSECONDS: u64 = 520;
/// argon2, for one block of 1 KiB once: getting it from the system and wiping it.
const ARGON2_TOUCH_NANOSECONDS: u64 = 350;
/// scrypt, for one step of N with one unit of r.
const SCRYPT_BLOCK_NANOSECONDS: u64 = 345;
/// bcrypt, for one round.
const BCRYPT_ROUND_NANOSECONDS: u64 = 52_000;

impl Stored {
    /// Reads a PHC string of argon2 or scrypt, or a bcrypt string.
    ///
    /// # Errors
    ///
    /// What is wrong with it, as the end of a sentence that names the parameter. The text itself is not
    /// repeated.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.get(..4) {
            Some("$2a$" | "$2b$" | "$2y$") => Self::parse_bcrypt(text),
            Some("$2x$") => Err("bcrypt strings of the faulty variant $2x$ are not supported".to_owned()),
            _ => Self::parse_phc(text),
        }
    }

    fn parse_bcrypt(text: &str) -> Result<Self, String> {
        let parts: bcrypt::HashParts =
            text.parse().map_err(|error: bcrypt::BcryptError| format!("not a bcrypt string: {error}"))?;
        let cost = parts.get_cost();
        match cost {
            4..=31 => Ok(Self { recipe: Recipe::Bcrypt { cost }, kept: Kept::Bcrypt(text.into()) }),
            _ => Err(format!("not a bcrypt string: the cost {cost} is outside 4 to 31")),
        }
    }

    fn parse_phc(text: &str) -> Result<Self, String> {
        let phc = PasswordHash::new(text).map_err(|error| {
            format!("not a PHC string as in '$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH': {error}")
        })?;
        let (Some(salt), Some(digest)) = (phc.salt, phc.hash) else {
            return Err("not a PHC string of a password: salt or hash is missing".to_owned());
        };
        let recipe = match phc.algorithm.as_str() {
            "argon2id" => argon2_recipe(Algorithm::Argon2id, &phc, digest.len())?,
            "argon2i" => argon2_recipe(Algorithm::Argon2i, &phc, digest.len())?,
            "argon2d" => argon2_recipe(Algorithm::Argon2d, &phc, digest.len())?,
            "scrypt" => scrypt_recipe(&phc)?,
            _ => {
                return Err(
                    "the scheme is not known; known are argon2id, argon2i, argon2d, scrypt and bcrypt"
                        .to_owned(),
                );
            }
        };
        Ok(Self { recipe, kept: Kept::Phc { salt, digest } })
    }

    /// Whether the password is the one that was hashed. The comparison takes the same time wherever they
    /// differ.
    ///
    /// # Errors
    ///
    /// When the library fails for no reason in the password.
    pub(super) fn verify(&self, password: &[u8], area: &mut Argon2Area) -> Result<bool, String> {
        match &self.kept {
            Kept::Bcrypt(text) => bcrypt::verify(password, text).map_err(|error| error.to_string()),
            Kept::Phc { salt, digest } => {
                Ok(self.recipe.derive(password, salt, digest.len(), area)? == *digest)
            }
        }
    }
}

/// The values of exactly these parameters.
fn costs<const N: usize>(phc: &PasswordHash, names: [&str; N]) -> Result<[u32; N], String> {
    let shape = || format!("the costs of {} are {}", phc.algorithm, names.join(", "));
    let known = |(name, value): (password_hash::phc::Ident, PhcValue<'_>)| {
        names.contains(&name.as_str()) && value.is_decimal()
    };
    if phc.params.iter().count() != N || !phc.params.iter().all(known) {
        return Err(shape());
    }
    let mut values = [0; N];
    for (value, name) in values.iter_mut().zip(names) {
        *value = phc.params.get_decimal(name).ok_or_else(shape)?;
    }
    Ok(values)
}

fn argon2_recipe(algorithm: Algorithm, phc: &PasswordHash, digest_bytes: usize) -> Result<Recipe, String> {
    let version = match phc.version {
        // Strings from before versions were written are of the first one.
        None | Some(16) => Version::V0x10,
        Some(19) => Version::V0x13,
        Some(other) => return Err(format!("version {other} of argon2 is not known; known are 16 and 19")),
    };
    let [memory_kib, iterations, parallelism] = costs(phc, ["m", "t", "p"])?;
    let params = Params::new(memory_kib, iterations, parallelism, Some(digest_bytes))
        .map_err(|error| format!("the costs do not fit together: {error}"))?;
    Ok(Recipe::Argon2 { algorithm, version, params })
}

fn scrypt_recipe(phc: &PasswordHash) -> Result<Recipe, String> {
    if phc.version.is_some() {
        return Err("scrypt has no versions".to_owned());
    }
    let [log_n, block_size, parallelism] = costs(phc, ["ln", "r", "p"])?;
    let log_n = u8::try_from(log_n).map_err(|_| format!("the cost ln={log_n} is too large"))?;
    Recipe::scrypt(log_n, block_size, parallelism)
}
