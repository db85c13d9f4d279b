//! The API's client: typed answers, bounded sizes, and failures that say what to do next.

use std::{collections::VecDeque, time::Duration};

use overlord_api::Task;
use overlord_server::{
    REQUESTED_BY, WARNING,
    view::{
        ApplyView, DeleteView, ErrorBody, ErrorView, StoreAccept, StoreView, TaskPatch, TaskView, WatchLine,
    },
};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;

use crate::{
    client_settings::{Server, ServerArgs},
    failure::{Exit, Failure, chain},
};

/// To a controller nearby; a dead one is noticed soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than the server's own limit, so that its answer is heard.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// Three heartbeats of a watch.
const WATCH_SILENCE: Duration = Duration::from_secs(45);
/// A listing of some ten thousand instances.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// One object of a watch.
const MAX_LINE: usize = 4 * 1024 * 1024;

/// A controller's API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    watch: reqwest::Client,
    server: Server,
}

/// Why a request brought no answer that was wished for.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The API said no, and why.
    Api(Box<ErrorView>),
    /// There was no API to say anything.
    Other(Failure),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Api(error) => {
                let details = error.details.iter().map(|fault| format!("\n  {}", fault.message));
                Self::failed(error.message.clone() + &details.collect::<String>(), error.hint)
            }
            Refusal::Other(failure) => failure,
        }
    }
}

impl Client {
    pub(crate) fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let server = args.resolve()?;
        let build = |builder: reqwest::ClientBuilder| {
            // The API is on this machine or on a private network; a proxy for the web does not know it. It speaks
            // plain HTTP: the system's certificates take milliseconds to read, and may not be there.
            builder.no_proxy().tls_certs_only([]).connect_timeout(CONNECT_TIMEOUT).build()
        };
        let http = build(reqwest::Client::builder().timeout(REQUEST_TIMEOUT));
        let watch = build(reqwest::Client::builder().read_timeout(WATCH_SILENCE));
        match (http, watch) {
            (Ok(http), Ok(watch)) => Ok(Self { http, watch, server }),
            (Err(error), _) | (_, Err(error)) => {
                Err(Failure::failed(format!("no HTTP client can be made: {}", chain(&error)), ""))
            }
        }
    }

    /// The server's address.
    pub(crate) fn server(&self) -> &str {
        &self.server.url
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Refusal> {
        self.ask(self.request(Method::GET, path)).await
    }

    /// The same, where "there is none" is an answer.
    pub(crate) async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Refusal> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(Refusal::Api(error)) if error.code == overlord_server::view::ErrorCode::NotFound => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    pub(crate) async fn put_manifest(&self, name: &str, text: String) -> Result<ApplyView, Refusal> {
        self.ask(self.request(Method::PUT, &format!("/v1/clusters/{}", segment(name))).body(text)).await
    }

    pub(crate) async fn delete_cluster(&self, name: &str) -> Result<DeleteView, Refusal> {
        self.ask(self.request(Method::DELETE, &format!("/v1/clusters/{}", segment(name)))).await
    }

    pub(crate) async fn post_task(&self, task: &Task) -> Result<TaskView, Refusal> {
        self.ask(self.request(Method::POST, "/v1/tasks").json(task)).await
    }

    pub(crate) async fn patch_task(&self, id: &str, patch: TaskPatch) -> Result<TaskView, Refusal> {
        self.ask(self.request(Method::PATCH, &format!("/v1/tasks/{}", segment(id))).json(&patch)).await
    }

    pub(crate) async fn accept_store(&self, wish: StoreAccept) -> Result<StoreView, Refusal> {
        self.ask(self.request(Method::POST, "/v1/store/accept").json(&wish)).await
    }

    /// Opens a watch.
    pub(crate) async fn watch<T: DeserializeOwned>(&self, path: &str) -> Result<Watch<T>, Refusal> {
        let request = self.watch.get(format!("{}{path}?watch=true", self.server.url));
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        Ok(Watch { response, buffer: Vec::new(), lines: VecDeque::new() })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.server.url)).header(REQUESTED_BY, requested_by())
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Refusal> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return Err(self.refused(response).await);
        }
        if let Some(warning) = response.headers().get(WARNING).and_then(|text| text.to_str().ok()) {
            warn_once(warning);
        }
        let bytes = self.body(response).await?;
        serde_json::from_slice(&bytes).map_err(|error| self.not_ours(&error.to_string()))
    }

    async fn refused(&self, response: Response) -> Refusal {
        let status = response.status();
        let bytes = match self.body(response).await {
            Ok(bytes) => bytes,
            Err(refusal) => return refusal,
        };
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Refusal::Api(Box::new(body.error)),
            Err(_) => self.not_ours(&format!("status {status}")),
        }
    }

    async fn body(&self, mut response: Response) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if bytes.len() + chunk.len() > MAX_ANSWER {
                return Err(self.not_ours("the answer is too large"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    fn unreachable(&self, error: &reqwest::Error) -> Refusal {
        let server = &self.server.url;
        let failure = if error.is_connect() {
            Failure::new(
                Exit::NoServer,
                format!("no controller answers at {server}"),
                "start one with `overlord sandbox` or `overlord controller`, or name another with --server",
            )
        } else if error.is_timeout() {
            Failure::new(
                Exit::NoServer,
                format!("the controller at {server} does not answer in time"),
                "look at its log; what was asked for may have been done",
            )
        } else {
            Failure::new(Exit::NoServer, format!("asking {server} failed: {}", chain(error)), "try again")
        };
        Refusal::Other(failure)
    }

    fn not_ours(&self, why: &str) -> Refusal {
        Refusal::Other(Failure::failed(
            format!("{} does not answer like an overlord controller: {why}", self.server.url),
            "check --server, and that client and controller have the same version (`overlord version`)",
        ))
    }
}

/// A running watch.
#[derive(Debug)]
pub(crate) struct Watch<T> {
    response: Response,
    buffer: Vec<u8>,
    lines: VecDeque<WatchLine<T>>,
}

impl<T: DeserializeOwned> Watch<T> {
    /// The next line that says something. `None`: the server ended the watch.
    pub(crate) async fn next(&mut self) -> Result<Option<WatchLine<T>>, Failure> {
        loop {
            match self.lines.pop_front() {
                Some(WatchLine::Heartbeat) => continue,
                Some(line) => return Ok(Some(line)),
                None => {}
            }
            let chunk = self.response.chunk().await.map_err(|error| {
                Failure::new(Exit::NoServer, format!("the watch broke: {}", chain(&error)), "start it again")
            })?;
            let Some(chunk) = chunk else { return Ok(None) };
            self.buffer.extend_from_slice(&chunk);
            self.split()?;
        }
    }

    fn split(&mut self) -> Result<(), Failure> {
        let bad = |why: String| Failure::failed(format!("the watch sent what is not expected: {why}"), "");
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=end).collect();
            self.lines.push_back(serde_json::from_slice(&line).map_err(|error| bad(error.to_string()))?);
        }
        if self.buffer.len() > MAX_LINE { Err(bad("a line without an end".to_owned())) } else { Ok(()) }
    }
}

/// Tells what the server says of its answers, once for all answers of this command.
fn warn_once(warning: &str) {
    static TOLD: std::sync::Once = std::sync::Once::new();
    // Of a server that is not ours, perhaps.
    let text: String = warning.chars().filter(|c| !c.is_control()).collect();
    TOLD.call_once(|| anstream::eprintln!("warning: {text}"));
}

/// Who asks, for people who read the task later.
fn requested_by() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "unknown".to_owned());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{user}@{host}").chars().filter(char::is_ascii_graphic).collect()
}

/// Text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':');
    let encoded = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_the_path() {
        assert_eq!(segment("orders"), "orders");
        assert_eq!(segment("a/../b c"), "a%2F..%2Fb%20c");
        assert_eq!(segment("127.0.0.1:20000"), "127.0.0.1:20000");
    }
}
