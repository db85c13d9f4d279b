//! `Location` of a redirect. The first byte says whether we came by TLS.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Some((tls, location)) = data.split_first() {
        overlord_mesos::properties::redirect(location, tls % 2 == 0);
    }
});
