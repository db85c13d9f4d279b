//! What masters write into ZooKeeper.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlord_mesos::properties::master_info(data));
