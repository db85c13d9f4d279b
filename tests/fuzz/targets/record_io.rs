//! RecordIO in chunks. The first byte says how many bytes behind it are sizes of chunks.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((count, rest)) = data.split_first() {
        let (cuts, stream) = rest.split_at(usize::from(*count).min(rest.len()));
        overlord_mesos::properties::record_io(stream, cuts);
    }
});
