//! The cases: `cargo test -p overlord-conformance [--test cases] [-- name...]`.

mod agents;
mod checks;
mod executors;
mod hooks;
mod sandbox;
mod scheduler;

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let Ok(directory) = tempfile::tempdir() else { return ExitCode::FAILURE };
    let stage =
        executors::Stage { binary: env!("CARGO_BIN_EXE_recorded-executor"), directory: directory.path() };
    let mut cases = scheduler::cases(&stage);
    cases.extend(executors::cases(&stage));
    cases.extend(agents::cases(&stage));
    let passed =
        runtime.block_on(overlord_conformance::run::run(cases, sandbox::factory(), std::env::args().skip(1)));
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
