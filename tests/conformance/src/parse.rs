//! Reads the recordings: annotated transcripts as text. `>>>` begins what was sent, `<<<` what came back, `===` a
//! note of the recorder.

use crate::model::{Entry, Head, Request, Transcript, What};

/// Why a recording cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{name}:{line}: {what}")]
pub struct ParseError {
    name: String,
    line: usize,
    what: &'static str,
}

/// Reads a recording.
pub fn parse(name: &str, text: &[u8]) -> Result<Transcript, ParseError> {
    let mut transcript = Transcript { name: name.to_owned(), entries: Vec::new() };
    for block in blocks(text) {
        let fail = |what| ParseError { name: name.to_owned(), line: block.line, what };
        let header = String::from_utf8_lossy(block.header);
        let (mark, rest) = header.split_at_checked(4).ok_or_else(|| fail("a mark without anything"))?;
        let (at, rest) = match rest.strip_prefix('+').map(|r| r.split_once(' ').unwrap_or((r, ""))) {
            Some((at, rest)) => (at.parse().map_err(|_| fail("a time that is no number"))?, rest),
            None => (0.0, rest),
        };
        let mut push = |connection: &str, what| {
            transcript.entries.push(Entry { at, line: block.line, connection: connection.to_owned(), what });
        };
        match mark {
            "=== " => match rest.strip_suffix(" closed by the client") {
                Some(connection) if !connection.contains(' ') => push(connection, What::Closed),
                _ => push("", What::Note(with_body(rest, block.content))),
            },
            ">>> " => {
                let (connection, to) = match rest.split_once(" (to ") {
                    Some((connection, to)) => (connection, Some(to.trim_end_matches(')').to_owned())),
                    None => (rest, None),
                };
                push(connection, What::Sent(request(to, block.content)));
            }
            _ => {
                let (connection, all) = received(rest, block.content).map_err(fail)?;
                for what in all {
                    push(connection, what);
                }
            }
        }
    }
    Ok(transcript)
}

struct Block<'a> {
    line: usize,
    header: &'a [u8],
    content: &'a [u8],
}

/// A mark at the start of a line begins a block.
fn blocks(text: &[u8]) -> Vec<Block<'_>> {
    let mut starts = Vec::new();
    let mut at = 0;
    let mut line = 1;
    while at < text.len() {
        let rest = &text[at..];
        if [&b">>> +"[..], b"<<< +", b"=== "].iter().any(|mark| rest.starts_with(mark)) {
            starts.push((line, at));
        }
        at += rest.iter().position(|&b| b == b'\n').map_or(rest.len(), |end| end + 1);
        line += 1;
    }
    let ends = starts.iter().skip(1).map(|(_, at)| *at).chain([text.len()]);
    let cut = starts.iter().zip(ends).map(|(&(line, start), end)| {
        let block = &text[start..end];
        let header = block.iter().position(|&b| b == b'\n').unwrap_or(block.len());
        let content = block.get(header + 1..).unwrap_or_default();
        Block { line, header: &block[..header], content }
    });
    cut.collect()
}

fn with_body(note: &str, content: &[u8]) -> String {
    let more = String::from_utf8_lossy(content);
    let more = more.trim_end();
    if more.is_empty() { note.to_owned() } else { format!("{note}\n{more}") }
}

fn request(to: Option<String>, content: &[u8]) -> Request {
    let text = String::from_utf8_lossy(content);
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let head: Vec<String> = head.lines().map(str::to_owned).collect();
    let mut request = Request { to, head, body: String::new() };
    request.body = if request.header("transfer-encoding").is_some() {
        let mut lines = body.lines();
        let mut whole = String::new();
        while let (Some(size), Some(chunk)) = (lines.next(), lines.next()) {
            if size == "0" {
                break;
            }
            whole.push_str(chunk);
        }
        whole
    } else {
        let length = request.header("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        body.get(..length).unwrap_or(body.trim_end_matches('\n')).to_owned()
    };
    request
}

fn received<'a>(rest: &'a str, content: &[u8]) -> Result<(&'a str, Vec<What>), &'static str> {
    let text = || String::from_utf8_lossy(content);
    if let Some((connection, size)) = split(rest, "chunk size=") {
        let size =
            size.split(' ').next().and_then(|s| usize::from_str_radix(s.trim_start_matches("0x"), 16).ok());
        let size = size.ok_or("a chunk's size that is no number")?;
        if size == 0 {
            return Ok((connection, vec![What::End]));
        }
        let payload = content.get(..size).unwrap_or(content);
        let start = payload.iter().position(|&b| b == b'\n').ok_or("a record without its length")? + 1;
        let record = &payload[start..];
        let what = record_of(record);
        return Ok((connection, vec![what]));
    }
    if let Some((connection, size)) = split(rest, "body (") {
        let size: usize =
            size.split(' ').next().and_then(|s| s.parse().ok()).ok_or("a body without a size")?;
        let body = content.get(..size).unwrap_or(content);
        return Ok((connection, vec![What::Body(String::from_utf8_lossy(body).into_owned())]));
    }
    if let Some((connection, _)) = split(rest, "EOF") {
        return Ok((connection, vec![What::Eof]));
    }
    // The executors' files leave "response head" out where the response is no stream, and keep its body with it.
    let connection = split(rest, "response head").map_or(rest, |(connection, _)| connection);
    let (head, body) = head(&text())?;
    let mut all = vec![What::Head(head)];
    if !body.is_empty() {
        all.push(What::Body(body));
    }
    Ok((connection, all))
}

/// A record of a stream, as JSON if it is that.
pub fn record_of(bytes: &[u8]) -> What {
    let text = || What::Opaque(String::from_utf8_lossy(bytes).into_owned());
    serde_json::from_slice(bytes).map_or_else(|_| text(), What::Record)
}

fn split<'a>(rest: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    if let Some(after) = rest.strip_prefix(word) {
        return Some(("", after));
    }
    let (connection, after) = rest.split_once(' ')?;
    Some((connection, after.strip_prefix(word)?))
}

fn head(text: &str) -> Result<(Head, String), &'static str> {
    let (head, body) = text.split_once("\n\n").unwrap_or((text.trim_end(), ""));
    let mut lines = head.lines();
    let mut status = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
    let code = status.next().and_then(|code| code.parse().ok()).ok_or("a response without a status")?;
    let reason = status.next().unwrap_or_default().to_owned();
    let headers = lines.filter_map(|line| line.split_once(':'));
    let headers = headers.map(|(n, value)| (n.to_owned(), value.trim().to_owned())).collect();
    Ok((Head { status: code, reason, headers }, body.trim_end_matches('\n').to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recording_can_be_read() {
        let folder = crate::captures();
        let mut read = 0;
        for file in std::fs::read_dir(&folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let transcript = parse(&name, &std::fs::read(&path).unwrap()).unwrap();
            assert!(transcript.entries.len() > 10, "{name} has {} entries", transcript.entries.len());
            let requests = transcript.entries.iter().filter(|e| matches!(e.what, What::Sent(_))).count();
            let heads = transcript.entries.iter().filter(|e| matches!(e.what, What::Head(_))).count();
            assert!(
                requests > 0 && heads > 0 && heads <= requests,
                "{name}: {requests} requests, {heads} heads"
            );
            read += 1;
        }
        assert!(read > 40, "only {read} recordings");
    }

    #[test]
    fn requests_responses_records_and_notes_are_told_apart() {
        let text = b"# c\n\n>>> +0.5 s1 (to 127.0.0.1:5150)\nPOST /a HTTP/1.1\nContent-Length: 2\n\n{}\n\n\
<<< +0.6 s1 response head\nHTTP/1.1 200 OK\nA: b\n\n<<< +0.7 s1 chunk size=0x17 (23)\n20\n{\"type\":\"HEARTBEAT\"}\n\n\
<<< +0.8 s1 chunk size=0x0 (0)\n\n<<< +0.9 c2 body (3 bytes)\nno\n\n\n=== +1.0 s1 closed by the client\n\n=== +1.1 a note\n";
        let read = parse("x", text).unwrap().entries;
        let shown: Vec<String> = read.iter().map(|e| format!("{} {}", e.connection, e.what)).collect();
        assert_eq!(
            shown,
            [
                "s1 POST /a HTTP/1.1 | Content-Length: 2 {}",
                "s1 200 OK",
                "s1 {\"type\":\"HEARTBEAT\"}",
                "s1 the end of the stream",
                "c2 body no\n",
                "s1 the connection closed by the client",
                " # a note",
            ]
        );
    }
}
