//! The `flux-rt` program.

fn main() -> std::process::ExitCode {
    flux_rt::cli::main()
}
