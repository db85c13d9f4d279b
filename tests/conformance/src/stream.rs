//! What one connection brought, cut into what has an order and what has none. Heartbeats and offers come when they
//! come; updates of different tasks pass each other; everything else is in order.

use serde_json::Value;

use crate::model::{Entry, Head, What, event_type, updated_task};

/// One connection.
#[derive(Debug, Default, Clone)]
pub struct Stream {
    /// Heads of responses, with the capture's lines.
    pub heads: Vec<(usize, Head)>,
    /// Bodies of responses.
    pub bodies: Vec<(usize, String)>,
    /// What has an order.
    pub items: Vec<Item>,
    /// The OFFERS events.
    pub offers: Vec<(usize, Value)>,
    /// How many HEARTBEATs came.
    pub heartbeats: usize,
    /// The type of the first record.
    pub first: Option<String>,
    /// Whether the request was HEAD: a client that knows HTTP reads no body then, though Mesos sends one.
    pub is_head: bool,
    closed: bool,
}

/// Something that has an order.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The capture's line.
    pub line: usize,
    /// Whose order it is in.
    pub lane: Lane,
    /// What it is.
    pub content: Content,
}

/// Whose order an item is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lane {
    /// Its connection's.
    Connection,
    /// Its task's.
    Task(String),
}

/// What has an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// An event.
    Record(Value),
    /// A record that is no JSON.
    Opaque,
    /// The last chunk.
    End,
    /// The connection is closed without one.
    Eof,
}

impl Content {
    /// A word for it: the event's type, and the state of an update.
    pub fn label(&self) -> String {
        match self {
            Self::Record(record) => {
                let kind = event_type(record).unwrap_or("a record without a type");
                let state = record.pointer("/update/status/state").and_then(Value::as_str);
                state.map_or_else(|| kind.to_owned(), |state| format!("{kind} {state}"))
            }
            Self::Opaque => "a record that is not JSON".to_owned(),
            Self::End => "the end of the stream".to_owned(),
            Self::Eof => "the end of the connection".to_owned(),
        }
    }
}

impl Stream {
    /// Everything of one connection.
    pub fn of(entries: &[Entry], connection: &str) -> Self {
        let mut stream = Self::default();
        for entry in entries.iter().filter(|entry| entry.connection == connection) {
            stream.push(entry);
        }
        stream
    }

    /// Takes what came next. Says which item it is, if it is a new one.
    pub fn push(&mut self, entry: &Entry) -> Option<usize> {
        let recorded = entry.line;
        let (lane, content) = match &entry.what {
            What::Sent(request) => {
                self.is_head = request.method() == "HEAD";
                return None;
            }
            What::Note(_) => return None,
            What::Closed => {
                self.closed = true;
                return None;
            }
            What::Head(head) => {
                self.heads.push((recorded, head.clone()));
                return None;
            }
            What::Body(body) => {
                self.bodies.push((recorded, body.clone()));
                return None;
            }
            What::Opaque(_) => (Lane::Connection, Content::Opaque),
            What::End => (Lane::Connection, Content::End),
            What::Eof if self.is_over() => return None,
            What::Eof => (Lane::Connection, Content::Eof),
            What::Record(record) => {
                let kind = event_type(record).unwrap_or_default();
                self.first.get_or_insert_with(|| kind.to_owned());
                match kind {
                    "HEARTBEAT" => {
                        self.heartbeats += 1;
                        return None;
                    }
                    "OFFERS" => {
                        self.offers.push((recorded, record.clone()));
                        return None;
                    }
                    // How many offers there are to rescind is the allocator's affair.
                    "RESCIND" if self.items.last().is_some_and(|item| item.content.label() == "RESCIND") => {
                        return None;
                    }
                    // An executor that ends well may do so before its last updates are acknowledged and come.
                    "FAILURE" if record.pointer("/failure/status") == Some(&Value::from(0)) => {
                        (Lane::Task("ends".to_owned()), Content::Record(record.clone()))
                    }
                    // What executors say passes what becomes of their tasks.
                    "MESSAGE" => (Lane::Task("messages".to_owned()), Content::Record(record.clone())),
                    _ => {
                        let task = updated_task(record).map(|task| Lane::Task(task.to_owned()));
                        (task.unwrap_or(Lane::Connection), Content::Record(record.clone()))
                    }
                }
            }
        };
        self.items.push(Item { line: recorded, lane, content });
        Some(self.items.len() - 1)
    }

    /// Whether a closed connection says nothing more: the answer is complete, or the client left.
    fn is_over(&self) -> bool {
        let ended = self.items.iter().any(|item| matches!(item.content, Content::End | Content::Eof));
        let answered = !self.heads.is_empty() && self.first.is_none();
        ended || self.closed || answered
    }

    /// The item's number in its lane.
    pub fn number_in_lane(&self, index: usize) -> Option<(Lane, usize)> {
        let item = self.items.get(index)?;
        let number = self.items[..index].iter().filter(|other| other.lane == item.lane).count();
        Some((item.lane.clone(), number))
    }

    /// The item with that number in its lane.
    pub fn in_lane(&self, lane: &Lane, number: usize) -> Option<&Item> {
        self.items.iter().filter(|item| item.lane == *lane).nth(number)
    }

    /// The lanes, in the order of their first items.
    pub fn lanes(&self) -> Vec<Lane> {
        let mut lanes = vec![Lane::Connection];
        for item in &self.items {
            if !lanes.contains(&item.lane) {
                lanes.push(item.lane.clone());
            }
        }
        lanes
    }

    /// The connection's items and those of one task, in their order, as words.
    pub fn order_with(&self, lane: &Lane) -> Vec<String> {
        let both = self.items.iter().filter(|item| item.lane == Lane::Connection || item.lane == *lane);
        both.map(|item| item.content.label()).collect()
    }
}
