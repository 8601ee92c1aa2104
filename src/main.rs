//! Parses, runs, exits.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    watchover::cli::main()
}
