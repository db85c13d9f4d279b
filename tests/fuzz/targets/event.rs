//! Events and calls of both APIs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlord_mesos::properties::event(data));
