//! How long tests with random input search, and where: the same places each time, unless somebody asks for others.
//!
//! `ANABRANCH_FUZZ_CASES` multiplies what each test does on its own, `ANABRANCH_FUZZ_SEED` is a whole number. Tests that are made with
//! proptest's own macro take `PROPTEST_CASES` and new seeds by themselves.

use std::str::FromStr;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// How many cases to try, where `usual` do for every run of CI.
pub fn cases(usual: u32) -> u32 {
    usual.saturating_mul(variable("ANABRANCH_FUZZ_CASES").unwrap_or(1))
}

/// Where to begin, if somebody says so.
pub fn seed() -> Option<u64> {
    variable("ANABRANCH_FUZZ_SEED")
}

/// Random numbers of a test, which differ from those of others.
pub fn random(test: u64) -> StdRng {
    StdRng::seed_from_u64(seed().unwrap_or(0) ^ test)
}

fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    match text.parse() {
        Ok(value) => Some(value),
        Err(_) => panic!("{name} is no number: {text}"),
    }
}
