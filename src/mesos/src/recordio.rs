//! RecordIO, the framing of Mesos' event streams: the record's length in decimal digits, a line feed,
//! then so many bytes. Lengths come from the network, so digits and sizes are bounded.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Largest record taken when nothing else is said. An OFFERS event of a thousand agents is about 1 MiB.
pub const DEFAULT_MAX_RECORD: usize = 16 * 1024 * 1024;

/// Largest record of a master: all that tens of thousands of agents offer comes in one.
pub const MASTER_MAX_RECORD: usize = 256 * 1024 * 1024;

/// A u64 has at most 20 digits, and libprocess writes no leading zeros.
const MAX_LENGTH_DIGITS: usize = 20;

/// So much is reserved for a record of which nothing has come.
const READ_AHEAD: usize = 16 * 1024;

/// Why a stream is no RecordIO. Nothing behind the fault can be trusted, so each of them ends the stream.
#[derive(Debug, thiserror::Error)]
pub enum RecordIoError {
    /// The stream itself failed.
    #[error("read record")]
    Io(#[from] io::Error),
    /// Something else than digits and a line feed where a length belongs.
    #[error("bad record length {found:?}")]
    BadLength {
        /// What stands there, cut and escaped.
        found: String,
    },
    /// The record is larger than allowed.
    #[error("record of {length} bytes exceeds the limit of {max}")]
    TooLarge {
        /// What the header says.
        length: u64,
        /// The limit.
        max: usize,
    },
    /// The stream ended within a record.
    #[error("stream ended within a record: {missing} bytes of its {part} are missing")]
    Truncated {
        /// `length` or `body`.
        part: &'static str,
        /// At least so many bytes.
        missing: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length,
    Body(usize),
    Broken,
}

/// Decodes and encodes records. After an error it swallows the rest of the stream.
#[derive(Debug)]
pub struct RecordIo {
    max: usize,
    state: State,
}

impl RecordIo {
    /// A codec that takes records of at most `max` bytes.
    pub fn new(max: usize) -> Self {
        Self { max, state: State::Length }
    }

    fn broken<T>(&mut self, error: RecordIoError) -> Result<T, RecordIoError> {
        self.state = State::Broken;
        Err(error)
    }

    /// Reads the length line if it is complete.
    fn length(&mut self, src: &mut BytesMut) -> Result<Option<usize>, RecordIoError> {
        let window = &src[..src.len().min(MAX_LENGTH_DIGITS + 1)];
        let digits = window.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == window.len() && digits <= MAX_LENGTH_DIGITS {
            return Ok(None);
        }
        let number = str::from_utf8(&window[..digits]).ok().and_then(|text| text.parse::<u64>().ok());
        let (Some(length), Some(b'\n')) = (number, window.get(digits)) else {
            let found = window.escape_ascii().to_string();
            return self.broken(RecordIoError::BadLength { found });
        };
        match usize::try_from(length) {
            Ok(size) if size <= self.max => {
                let _line = src.split_to(digits + 1);
                Ok(Some(size))
            }
            _ => self.broken(RecordIoError::TooLarge { length, max: self.max }),
        }
    }
}

impl Default for RecordIo {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_RECORD)
    }
}

impl Decoder for RecordIo {
    type Item = Bytes;
    type Error = RecordIoError;

    fn decode(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, RecordIoError> {
        if self.state == State::Length
            && let Some(size) = self.length(src)?
        {
            self.state = State::Body(size);
        }
        match self.state {
            State::Length => Ok(None),
            State::Body(size) if src.len() >= size => {
                self.state = State::Length;
                Ok(Some(src.split_to(size).freeze()))
            }
            State::Body(size) => {
                // A length is a promise only: memory follows what has come.
                src.reserve((size - src.len()).min(src.len().max(READ_AHEAD)));
                Ok(None)
            }
            State::Broken => {
                src.clear();
                Ok(None)
            }
        }
    }

    fn decode_eof(&mut self, src: &mut BytesMut) -> Result<Option<Bytes>, RecordIoError> {
        if let Some(record) = self.decode(src)? {
            return Ok(Some(record));
        }
        match self.state {
            State::Length if src.is_empty() => Ok(None),
            State::Length => self.broken(RecordIoError::Truncated { part: "length", missing: 1 }),
            State::Body(size) => {
                let missing = size - src.len();
                self.broken(RecordIoError::Truncated { part: "body", missing })
            }
            State::Broken => Ok(None),
        }
    }
}

impl Encoder<&[u8]> for RecordIo {
    type Error = RecordIoError;

    fn encode(&mut self, record: &[u8], dst: &mut BytesMut) -> Result<(), RecordIoError> {
        if record.len() > self.max {
            return Err(RecordIoError::TooLarge { length: record.len() as u64, max: self.max });
        }
        let length = record.len().to_string();
        dst.reserve(length.len() + 1 + record.len());
        dst.put_slice(length.as_bytes());
        dst.put_u8(b'\n');
        dst.put_slice(record);
        Ok(())
    }
}

/// One record with its length line.
pub fn encode(record: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(record.len() + 8);
    framed.put_slice(record.len().to_string().as_bytes());
    framed.put_u8(b'\n');
    framed.put_slice(record);
    framed.freeze()
}

#[cfg(test)]
mod tests;
