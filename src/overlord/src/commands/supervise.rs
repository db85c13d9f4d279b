//! `overlord supervise`: a process that ends what a dead sandbox left behind.

use crate::failure::Failure;

pub(crate) fn run() -> Result<(), Failure> {
    overlord_sandbox::supervisor::run(std::io::stdin().lock())
        .map_err(|error| Failure::io("the supervisor", &error))
}
