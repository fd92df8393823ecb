//! The test binary playing the `anabranch` command.

use std::io::Read;
use std::process::ExitCode;

use anabranch::args::Args;
use anabranch::commands;
use clap::Parser;

/// JSON array of the command line's arguments.
pub(crate) const ARGS: &str = "ANABRANCH_E2E_ARGS";
/// When set, the child ends as soon as its standard input does, so that no test leaves a service behind.
pub(crate) const TETHER: &str = "ANABRANCH_E2E_TETHER";
/// What the child prints before the command begins; everything above it is the test runner's.
pub(crate) const MARK: &str = "--- anabranch ---";
/// Name of the test that calls [`run_if_asked`], at the root of the test binary.
pub(crate) const TEST: &str = "child";
/// The stack that a program's main thread has; a test's thread has less.
const STACK_BYTES: usize = 8 << 20;

/// Runs the command that the environment names and exits with its code; returns when it names none.
///
/// # Panics
/// When the arguments are no JSON array of strings.
pub fn run_if_asked() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let args: Vec<String> = serde_json::from_str(&args).expect("the arguments are a JSON array");
    if std::env::var_os(TETHER).is_some() {
        std::thread::spawn(|| {
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            std::process::exit(3);
        });
    }
    println!("{MARK}");
    let command = move || {
        let code = commands::run(Args::parse_from(std::iter::once("anabranch".to_owned()).chain(args)));
        let number = (0..=u8::MAX).find(|number| ExitCode::from(*number) == code);
        std::process::exit(number.map_or(1, i32::from));
    };
    let main = std::thread::Builder::new()
        .name("main".into())
        .stack_size(STACK_BYTES)
        .spawn(command);
    let _ = main.expect("a thread can be started").join();
    // Reached only when the command panicked.
    std::process::exit(101);
}
