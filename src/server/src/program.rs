//! `/v1/executor/<sha256>/overlord`: the controller's own binary, for the fetchers of Mesos agents. What an address
//! names never changes, so everybody on the way may keep it.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use futures::{Stream, stream};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use tokio::{sync::Notify, time};

use crate::{
    api::{ApiState, Now},
    error::ApiError,
    view::ErrorCode,
};

/// Bytes read at once; so many are in memory for each download.
const CHUNK: usize = 256 * 1024;
/// Downloads at once. Agents keep what they fetched, so these are at most that many new agents.
const MAX_DOWNLOADS: usize = 64;
/// A download that took nothing for so long makes room for others.
const STALLED: SignedDuration = SignedDuration::from_secs(60);
/// How long a download waits for its turn: below the time that a request has, and below what a fetcher takes for a
/// dead server (`--fetcher_stall_timeout`, 1 minute).
const TURNS: u32 = 25;
const TURN: Duration = Duration::from_secs(1);

/// A file that is served: open, so that it stays what it was when its digest was taken, whatever becomes of its path.
pub struct Program {
    file: fs::File,
    length: u64,
    sha256: String,
    downloads: Arc<Downloads>,
}

impl Program {
    /// Opens a file and takes its digest. Blocks for as long as reading all of it takes.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = fs::File::open(path)?;
        let length = file.metadata()?.len();
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < length {
            let wanted = usize::try_from(length - at).map_or(CHUNK, |left| left.min(CHUNK));
            let read = file.read_at(&mut buffer[..wanted], at)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
        }
        let sha256 = format!("{:x}", hasher.finalize());
        Ok(Self { file, length, sha256, downloads: Arc::default() })
    }

    /// Its digest, in lower-case hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Its path on the API.
    pub fn path(&self) -> String {
        format!("/v1/executor/{}/overlord", self.sha256)
    }

    fn read(&self, at: u64) -> io::Result<Bytes> {
        let wanted = usize::try_from(self.length - at).map_or(CHUNK, |left| left.min(CHUNK));
        let mut buffer = vec![0; wanted];
        self.file.read_exact_at(&mut buffer, at)?;
        Ok(buffer.into())
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("sha256", &self.sha256)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// The downloads under way.
#[derive(Debug, Default)]
struct Downloads {
    table: Mutex<Table>,
    /// One has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Of each, when it took something last.
    active: BTreeMap<u64, Timestamp>,
}

impl Downloads {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(self: &Arc<Self>, now: Timestamp) -> Option<Slot> {
        let mut table = self.table();
        if table.active.len() >= MAX_DOWNLOADS {
            table.active.retain(|_, last| now.duration_since(*last) < STALLED);
        }
        if table.active.len() >= MAX_DOWNLOADS {
            return None;
        }
        table.next += 1;
        let id = table.next;
        table.active.insert(id, now);
        Some(Slot { id, downloads: Arc::clone(self) })
    }
}

/// A download's place among those under way.
#[derive(Debug)]
struct Slot {
    id: u64,
    downloads: Arc<Downloads>,
}

impl Slot {
    /// Something was taken; false when the place was given to another.
    fn goes_on(&self, now: Timestamp) -> bool {
        match self.downloads.table().active.get_mut(&self.id) {
            Some(last) => {
                *last = now;
                true
            }
            None => false,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.downloads.table().active.remove(&self.id);
        self.downloads.ended.notify_one();
    }
}

/// `GET` and `HEAD`. A fetcher asks for the length first.
pub(crate) async fn get(
    State(state): State<ApiState>,
    axum::extract::Path(wanted): axum::extract::Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let program = state.program.clone().filter(|program| program.sha256 == wanted).ok_or_else(|| {
        let message = match &state.program {
            Some(program) => format!("this controller serves the binary {}, no other one", program.sha256),
            None => "this controller does not serve its binary".to_owned(),
        };
        ApiError::not_found(
            message,
            "a controller of another build has launched this executor; the one that leads now launches it again",
        )
    })?;
    let etag = format!("\"{}\"", program.sha256);
    let is_known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag || tag == "*");
    let mut answer = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else if method == Method::HEAD {
        Body::empty().into_response()
    } else {
        let slot = wait_for_turn(&program, &state.now).await?;
        Body::from_stream(chunks(Arc::clone(&program), slot, Arc::clone(&state.now))).into_response()
    };
    let answer_headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer_headers.insert(header::ETAG, etag);
    }
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    answer_headers.insert(header::CACHE_CONTROL, forever);
    if !is_known {
        let kind = HeaderValue::from_static("application/octet-stream");
        answer_headers.insert(header::CONTENT_TYPE, kind);
        answer_headers.insert(header::CONTENT_LENGTH, program.length.into());
    }
    Ok(answer)
}

async fn wait_for_turn(program: &Program, now: &Now) -> Result<Slot, ApiError> {
    for _ in 0..TURNS {
        if let Some(slot) = program.downloads.begin(now()) {
            return Ok(slot);
        }
        // Whether another one ended or stalled.
        let _ = time::timeout(TURN, program.downloads.ended.notified()).await;
    }
    Err(ApiError::new(ErrorCode::Busy, "too many downloads are under way", "try again in a minute"))
}

/// The file in pieces, each read when the one before it was taken.
fn chunks(program: Arc<Program>, slot: Slot, now: Now) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((program, slot, 0_u64), move |(program, slot, at)| {
        let now = Arc::clone(&now);
        async move {
            if at >= program.length {
                return Ok(None);
            }
            if !slot.goes_on(now()) {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the download stalled"));
            }
            let reader = Arc::clone(&program);
            let chunk = tokio::task::spawn_blocking(move || reader.read(at))
                .await
                .map_err(|_| io::Error::other("a read was cut short"))??;
            let next = at + chunk.len() as u64;
            Ok(Some((chunk, (program, slot, next))))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn downloads_are_bounded_and_a_stalled_one_makes_room() {
        let downloads = Arc::new(Downloads::default());
        let mut slots: Vec<Slot> = (0..MAX_DOWNLOADS).map(|_| downloads.begin(at(0)).unwrap()).collect();
        assert!(downloads.begin(at(59)).is_none());
        assert!(slots[1].goes_on(at(59)));
        drop(slots.pop());
        slots.push(downloads.begin(at(59)).unwrap());
        let late = downloads.begin(at(61)).unwrap();
        assert!(!slots[0].goes_on(at(61)), "it took nothing for a minute");
        assert!(slots[1].goes_on(at(61)) && late.goes_on(at(61)));
    }

    #[test]
    fn a_file_stays_what_it_was_when_its_path_gets_another_one() {
        let folder = std::env::temp_dir().join(format!("overlord-program-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("p");
        let text = vec![7; CHUNK + 3];
        fs::write(&path, &text).unwrap();
        let program = Program::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        let read = [program.read(0).unwrap(), program.read(CHUNK as u64).unwrap()].concat();
        assert_eq!(read, text);
        assert_eq!(program.sha256(), format!("{:x}", Sha256::digest(&text)));
        fs::remove_dir_all(&folder).unwrap();
    }
}
