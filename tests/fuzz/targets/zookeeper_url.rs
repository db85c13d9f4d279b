//! Addresses of masters by `zk://`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlord_mesos::properties::zookeeper_url(data));
