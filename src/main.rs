//! Parses, runs, exits.

fn main() -> std::process::ExitCode {
    watchover::cli::main()
}
