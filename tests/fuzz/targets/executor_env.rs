//! The environment of an executor.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlord_mesos::properties::executor_env(data));
