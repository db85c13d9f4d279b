//! What holds for everything that is read from outside, whatever it is: no panic, no more memory than its
//! bounds allow. Each function takes any bytes; they are called by property tests here and by the fuzz
//! targets in tests/fuzz.
#![allow(
    clippy::expect_used,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "a property that fails ends the test"
)]

use bytes::BytesMut;
use reqwest::Url;
use tokio_util::codec::Decoder as _;

use crate::{
    ExecutorEnv,
    detect::{ZooKeeperUrl, lowest, parse_master},
    http::{parse_event, redirect_target},
    recordio::RecordIo,
    v1::{executor, scheduler},
};

/// Largest record in [`record_io`].
const MAX_RECORD: usize = 4096;

/// Feeds a RecordIO decoder `data` in chunks of the sizes that `cuts` says, and checks that records are the
/// same as when all comes at once, that they obey the limit, and that the decoder reserves no more than it has
/// been promised by as much as a record may have.
pub fn record_io(data: &[u8], cuts: &[u8]) {
    let whole = decoded(data, std::iter::repeat(data.len().max(1)));
    let parts = decoded(data, cuts.iter().map(|cut| usize::from(*cut) + 1).chain(std::iter::repeat(1)));
    assert_eq!(whole, parts, "cuts must not matter");
}

fn decoded(data: &[u8], chunks: impl Iterator<Item = usize>) -> (Vec<Vec<u8>>, bool) {
    let mut codec = RecordIo::new(MAX_RECORD);
    let mut buffer = BytesMut::new();
    let mut records = Vec::new();
    let mut rest = data;
    let mut chunks = chunks;
    while !rest.is_empty() {
        let size = chunks.next().unwrap_or(1).min(rest.len());
        let (chunk, behind) = rest.split_at(size);
        rest = behind;
        buffer.extend_from_slice(chunk);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(record)) => {
                    assert!(record.len() <= MAX_RECORD, "record of {} bytes", record.len());
                    records.push(record.to_vec());
                }
                Ok(None) => break,
                Err(_) => return (records, true),
            }
        }
        // What is held: a line that may still be a length, or a record that is not whole yet.
        assert!(buffer.len() <= MAX_RECORD + 32, "{} bytes are held", buffer.len());
        assert!(
            buffer.capacity() <= 4 * (MAX_RECORD + 32) + 2 * data.len(),
            "{} bytes are reserved",
            buffer.capacity()
        );
    }
    let broken = codec.decode_eof(&mut buffer).is_err();
    (records, broken)
}

/// Reads any record as an event of either API, and as a call, and writes what it has read again.
pub fn event(data: &[u8]) {
    if let Ok(Some(event)) = parse_event::<scheduler::Event>("fuzz", data) {
        again(&event);
        for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
            let _ = crate::resources::totals(&offer.resources);
            let all = crate::resources::sum(offer.resources.iter().cloned());
            let _ = crate::resources::subtract(&offer.resources, &all);
            let some = crate::resources::Request { cpus: 0.1, mem: 32.0, disk: 1.0, ports: vec![31000] };
            let _ = crate::resources::carve(&offer.resources, &some, &some);
        }
    }
    if let Ok(Some(event)) = parse_event::<executor::Event>("fuzz", data) {
        again(&event);
    }
    if let Ok(call) = serde_json::from_slice::<scheduler::Call>(data) {
        again(&call);
    }
    if let Ok(call) = serde_json::from_slice::<executor::Call>(data) {
        again(&call);
    }
}

fn again<T: serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_vec(value).expect("what was read can be written");
    let read: T = serde_json::from_slice(&text).expect("what was written can be read");
    let twice = serde_json::to_vec(&read).expect("what was read can be written");
    assert_eq!(text, twice, "written and read, it stays the same");
}

/// Follows any `Location`, by plain HTTP or by TLS.
pub fn redirect(location: &[u8], tls: bool) {
    let from = if tls {
        "https://127.0.0.1:5050/api/v1/scheduler"
    } else {
        "http://127.0.0.1:5050/api/v1/scheduler"
    };
    let from = Url::parse(from).expect("a URL");
    match redirect_target(&from, location) {
        Ok(url) => {
            assert!(url.scheme() == "https" || !tls && url.scheme() == "http", "{url}");
            assert!(url.host_str().is_some_and(|host| !host.is_empty()), "{url}");
            assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        }
        Err(text) => assert!(text.len() < 2048, "{} bytes of message", text.len()),
    }
}

/// Reads the data of any node as that of a master, and its name as that of one.
pub fn master_info(data: &[u8]) {
    match parse_master(data) {
        Ok(leader) => assert!(!leader.ip.is_unspecified() && leader.port != 0),
        Err(text) => assert!(text.len() < 4096, "{} bytes of message", text.len()),
    }
    let names: Vec<_> =
        data.split(|byte| *byte == b'\n').map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if let Some(name) = lowest(&names) {
        assert!(names.iter().any(|other| other == name));
    }
}

/// Reads any text as a `zk://` address, writes it, and reads that again.
pub fn zookeeper_url(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = text.parse::<ZooKeeperUrl>() {
        let written = format!("zk://{}{}", url.servers(), url.path());
        let again: ZooKeeperUrl = written.parse().expect("its own text");
        assert_eq!((again.servers(), again.path()), (url.servers(), url.path()));
        if let Some((_, password)) = url.auth().and_then(|auth| auth.split_once(':'))
            && password.len() > 16
        {
            assert!(!format!("{url:?}").contains(password), "a password is printed");
        }
    }
}

/// Reads any lines as the variables of an executor, `NAME=value` each.
pub fn executor_env(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let vars: Vec<(String, String)> = text
        .split('\n')
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    if let Ok(env) = ExecutorEnv::from_env(vars) {
        assert!(!env.executor_id.as_str().is_empty() && !env.framework_id.as_str().is_empty());
    }
}

#[cfg(test)]
mod tests;
