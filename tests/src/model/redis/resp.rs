//! Answers, as redis writes them.

/// `+OK`.
pub(crate) fn ok() -> Vec<u8> {
    status("OK")
}

pub(crate) fn status(text: &str) -> Vec<u8> {
    format!("+{text}\r\n").into_bytes()
}

/// With its code in front: `ERR no such thing`.
pub(crate) fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

pub(crate) fn number(number: u64) -> Vec<u8> {
    format!(":{number}\r\n").into_bytes()
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    let mut reply = format!("${}\r\n", bytes.len()).into_bytes();
    reply.extend_from_slice(bytes);
    reply.extend_from_slice(b"\r\n");
    reply
}

/// A value, or none.
pub(crate) fn value(bytes: Option<&Vec<u8>>) -> Vec<u8> {
    bytes.map_or_else(|| b"$-1\r\n".to_vec(), |bytes| bulk(bytes))
}

pub(crate) fn list(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    let mut reply = format!("*{}\r\n", items.len()).into_bytes();
    for item in items {
        reply.extend(item);
    }
    reply
}
