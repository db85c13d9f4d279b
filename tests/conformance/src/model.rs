//! A transcript: what was sent and what came back, connection by connection, in the order it was seen. A capture
//! is one, and so is what a case brings about.

use std::fmt;

use serde_json::Value;

/// A scenario as it was seen from the outside.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transcript {
    /// The capture's name, such as `01_subscribe_new`.
    pub name: String,
    /// In the order of time.
    pub entries: Vec<Entry>,
}

impl Transcript {
    /// With another text in its requests, records and bodies.
    #[must_use]
    pub fn edited(mut self, from: &str, to: &str) -> Self {
        for entry in &mut self.entries {
            match &mut entry.what {
                What::Record(record) => edit(record, from, to),
                What::Body(body) => *body = body.replace(from, to),
                What::Sent(request) => request.body = request.body.replace(from, to),
                _ => {}
            }
        }
        self
    }
}

fn edit(value: &mut Value, from: &str, to: &str) {
    match value {
        Value::String(text) => *text = text.replace(from, to),
        Value::Array(items) => items.iter_mut().for_each(|item| edit(item, from, to)),
        Value::Object(fields) => fields.values_mut().for_each(|field| edit(field, from, to)),
        _ => {}
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Seconds since the scenario began.
    pub at: f64,
    /// The line of the capture, or 0.
    pub line: usize,
    /// The connection, such as `s1`; empty where a file has only one.
    pub connection: String,
    /// What happened.
    pub what: What,
}

/// What can happen.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// The client sent a request.
    Sent(Request),
    /// The head of a response came.
    Head(Head),
    /// The body of a response came.
    Body(String),
    /// One record of a stream came.
    Record(Value),
    /// One record that is no JSON came; what of it is text.
    Opaque(String),
    /// The server ended the stream: the last chunk.
    End,
    /// The server closed the connection.
    Eof,
    /// The client closed the connection.
    Closed,
    /// What the recorder says.
    Note(String),
}

/// A request, with LF for line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The address it was sent to, where the capture says so.
    pub to: Option<String>,
    /// Request line and headers.
    pub head: Vec<String>,
    /// Without chunk framing.
    pub body: String,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Such as 202.
    pub status: u16,
    /// Such as `Accepted`.
    pub reason: String,
    /// In the order of the wire.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The request line's path.
    pub fn path(&self) -> &str {
        self.head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default()
    }

    /// The request line's method.
    pub fn method(&self) -> &str {
        self.head.first().and_then(|line| line.split(' ').next()).unwrap_or_default()
    }

    /// The body as JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// The `type` of the call.
    pub fn call(&self) -> Option<String> {
        Some(self.json()?.get("type")?.as_str()?.to_owned())
    }
}

impl Entry {
    /// The `type` of the event, if this is one.
    pub fn event(&self) -> Option<&str> {
        match &self.what {
            What::Record(record) => event_type(record),
            _ => None,
        }
    }
}

/// The `type` of an event.
pub fn event_type(record: &Value) -> Option<&str> {
    record.get("type")?.as_str()
}

/// The task an UPDATE is about.
pub fn updated_task(record: &Value) -> Option<&str> {
    record.pointer("/update/status/task_id/value")?.as_str()
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent(request) => write!(f, "{} {}", request.head.join(" | "), request.body),
            Self::Head(head) => write!(f, "{} {}", head.status, head.reason),
            Self::Body(body) => write!(f, "body {body}"),
            Self::Record(record) => write!(f, "{record}"),
            Self::Opaque(_) => write!(f, "a record that is not JSON"),
            Self::End => write!(f, "the end of the stream"),
            Self::Eof => write!(f, "the connection closed by the server"),
            Self::Closed => write!(f, "the connection closed by the client"),
            Self::Note(note) => write!(f, "# {note}"),
        }
    }
}
